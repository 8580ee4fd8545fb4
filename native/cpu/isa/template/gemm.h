// The rows that every instruction set's table of matrix products has. See kernels.h here.

constexpr std::array kCommonGemm = {
    plain_kernel<PlainWeight<float>, CodeType::f32>("f32", f32_panels),
    plain_kernel<PlainWeight<f16>, CodeType::f16>("f16", f16_panels),
    plain_kernel<PairedWeight, CodeType::bf16>("bf16", bf16_panels),
    coded_kernel<IntegerCodes<2>>("i2", takes_integers<2>, "i2, u2"),
    coded_kernel<IntegerCodes<3>>("i3", takes_integers<3>, "i3, u3"),
    coded_kernel<IntegerCodes<4>>("i4", takes_integers<4>, "i4, u4"),
    coded_kernel<IntegerCodes<5>>("i5", takes_integers<5>, "i5, u5"),
    coded_kernel<IntegerCodes<6>>("i6", takes_integers<6>, "i6, u6"),
    coded_kernel<ByteCodes>("i8", takes_integers<8>, "i8, u8"),
    coded_kernel<E4M3Codes>("e4m3", takes_code<CodeType::e4m3>, "e4m3"),
    coded_kernel<IntegerTableCodes>("integer_table", takes_integer_table<4>, "e2m1, iq3, iq4"),
    coded_kernel<NarrowTableCodes>("narrow_table", takes_integer_table<3>, "iq1, iq2"),
    coded_kernel<NibbleCodes>("table", takes_table<4>, "nf4, fp4"),
};
