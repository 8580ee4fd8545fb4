// What an instruction set with products of bytes adds to another's rows; digits are apart, as isa.cc orders them.
// Included after ByteProducts.

constexpr auto kRows = joined(kExtensionGemm, kFactorGemm<ByteProducts>, kIntegerGemm<ByteProducts>);

constexpr auto kDigitRows = joined(kDigitFactorKernels<ByteProducts>, kDigitKernels<ByteProducts>);

const std::span<const GemmKernel> kGemm = kRows;
const std::span<const GemmKernel> kDigitGemm = kDigitRows;
const PeakLoop kPeak = integer_peak_loop<ByteProducts>();
