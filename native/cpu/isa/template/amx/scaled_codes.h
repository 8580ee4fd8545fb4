// Products of floats with quantised weights whose scales are powers of two, in tile registers. See codes.h here.
//
// A scale changes a code's exponent alone, so bfloat16 holds the scaled code exactly: unpacked weights are those of
// floats.h, and no sums are scaled.

template <class Codes_>
class ScaledCodes {
 public:
  using Codes = HalfPairs<Codes_>;

  explicit ScaledCodes(const TileArguments& t) : t_(t), codes_(*t.scales), scales_(t) {}
  // As PlainCodes::unpack(), for one k after the other.
  void unpack(int64_t k, int64_t step, char* target) {
    unpack_units<Codes>(t_, k, step, target, [&](const char* unit, int64_t unit_k, char* rows) {
      unpack_unit(unit, scales_.scales(t_.scales->segments_in(unit_k)), rows);
    });
  }

 private:
  void unpack_unit(const char* unit, const float* scales, char* rows) const {
    // Whatever a code is, its exponent stays one of bfloat16's, without overflow and subnormal numbers.
    const Vector least = Vector::broadcast(0x1p-90f), most = Vector::broadcast(0x1p90f);
    Vector scale[kPanelVectors];
    Words exponents[kPanelVectors];
    bool within = true;
#pragma GCC unroll 2
    for (int j = 0; j < kPanelVectors; ++j) {
      scale[j] = Vector::load(scales + j * kWidth);
      within = within && scale[j].at_least(least) == kAllLanes && scale[j].at_least(most) == 0;
      const Words upper = Words::of(scale[j]).minus(Words::broadcast(0x3f800000));
      exponents[j] = upper.with(upper.template shifted<-16>());
    }
    if (within) {
      codes_.unpack(unit, rows, [&](Words pairs, int j) { return pairs.numbers_with_exponents(exponents[j]); });
    } else {
      codes_.unpack(unit, rows, [&](Words pairs, int j) {
        const Vector even = pairs.template shifted<16>().number() * scale[j];
        const Vector odd = pairs.masked(0xffff0000u).number() * scale[j];
        return Words::of(odd).under(0xffff0000u, Words::of(even).template shifted<-16>());
      });
    }
  }

  static constexpr uint32_t kAllLanes = (uint32_t{1} << kWidth) - 1;

  const TileArguments& t_;
  const Codes codes_;
  SegmentScales scales_;
};

// A single tile, which unpacks the panel.
template <class Tiles, class Unpacking, int parts, bool two>
void scaled_code_tile(const TileArguments& t) {
  configure_tiles<Tiles>(kFloatShapes[t.rows]);
  PanelRows<Unpacking> columns(t, kTileK);
  t.accumulate ? load_sums<Tiles, two>(t.c, kWeightStride) : zero_sums<Tiles, two>();
  const char* x = static_cast<const char*>(t.x);
  const int64_t part_bytes = t.rows * kRowPartBytes;
  BesideProducts beside(t, (t.k + kTileK - 1) / kTileK);
  for (int64_t k = 0; k < t.k; k += kTileK, x += parts * part_bytes) {
    beside.step();
    multiply_step<Tiles, false, parts, two>(x, part_bytes, columns.rows(k));
  }
  store_sums<Tiles, two>(t.c, kWeightStride);
}

template <class Tiles, class Codes, Arithmetic arithmetic>
constexpr GemmKernel scaled_code_kernel(const char* name, DType tokens, bool (*takes)(const WeightFormat&),
                                        const char* formats) {
  constexpr int parts = parts_of(arithmetic);
  using Unpacking = ScaledCodes<Codes>;
  GemmKernel kernel = unpacking_kernel<Tiles, arithmetic>(
      name, tokens, takes, formats, "exact products with scaled codes, 32 at a time added to float32 sums");
  kernel.tile =
      by_rows(scaled_code_tile<Tiles, Unpacking, parts, false>, scaled_code_tile<Tiles, Unpacking, parts, true>);
  kernel.unpacked.unpack = unpack_block<Unpacking>;
  kernel.unpacked.tile = by_rows(float_tile<Tiles, parts, false>, float_tile<Tiles, parts, true>);
  return kernel;
}

// For tokens of one dtype.
template <class Tiles, class E4M3Pairs, Arithmetic arithmetic>
constexpr auto scaled_code_kernels(DType tokens, const std::array<const char*, 2>& names) {
  return std::array{
      scaled_code_kernel<Tiles, E4M3Pairs, arithmetic>(
          names[0], tokens, takes_with_powers_of_two<takes_code<CodeType::e4m3>>, "e4m3 with e8m0 scales"),
      scaled_code_kernel<Tiles, IntegerTablePairs, arithmetic>(
          names[1], tokens, takes_with_powers_of_two<takes_integer_table<4>>, "e2m1, iq4 with e8m0 scales"),
  };
}

template <class Tiles, class E4M3Pairs>
constexpr auto kScaledCodeGemm = joined(scaled_code_kernels<Tiles, E4M3Pairs, Arithmetic::bf16_tiles>(
                                            DType::bf16, {"scaled_e4m3_tiles", "scaled_integer_table_tiles"}),
                                        scaled_code_kernels<Tiles, E4M3Pairs, Arithmetic::bf16_tiles_of_two>(
                                            DType::f16, {"f16_scaled_e4m3_tiles", "f16_scaled_integer_table_tiles"}),
                                        scaled_code_kernels<Tiles, E4M3Pairs, Arithmetic::bf16_tiles_of_three>(
                                            DType::f32, {"f32_scaled_e4m3_tiles", "f32_scaled_integer_table_tiles"}));
