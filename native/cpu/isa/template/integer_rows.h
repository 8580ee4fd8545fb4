// Rows of tables of matrix products by integers: codes of x, or its digits. See kernels.h here.

constexpr UnpackedTiles unpacked_bytes(UnpackFunction unpack, const TileFunctions& tile) {
  return {.unpack = unpack, .at_least = unpacked_at_least(false), .code_bytes = 1, .tile = tile};
}

// Products of pairs of bytes take more registers.
template <class Products>
constexpr bool kHasIntegerParts = kHasParts && !Products::multiplies_pairs;

template <class Quads>
constexpr bool kReadsCheaply = std::is_same_v<Quads, FieldQuads<Quads::bits>>;

// Tiles that share a panel from which on unpacked codes are read in parts: two read packed ones as fast.
constexpr int kPackedInParts = 3;

// A row for integer codes of x.
template <class Products, class Quads>
constexpr GemmKernel integer_kernel(const char* name, bool (*takes)(const WeightFormat&), const char* formats) {
  constexpr auto all_rows = std::make_integer_sequence<int, kTileRows>();
  using Plain = PlainQuads<Quads::largest, Quads::bias>;
  constexpr UnpackFunction unpack = unpack_bytes<Quads>;
  GemmKernel row = {.name = name,
                    .codes = TokenFormat::int8,
                    .arithmetic = Arithmetic::i8_quads,
                    .takes = takes,
                    .formats = formats,
                    .panels = coded_panels,
                    .numbers = kIntegerNumbers,
                    .max_rows = kTileRows,
                    .tile = integer_tiles<Products, Quads, RunScales, QuadRows>(all_rows),
                    .sum_segments = sum_quads<Products>,
                    .biased_rows = kTileRows};
  row.unpacked = unpacked_bytes(unpack, integer_tiles<Products, Plain, UnpackedScales<1>, QuadRows>(all_rows));
  if constexpr (kHasIntegerParts<Products>) {
    row.in_parts = unpacked_bytes(unpack, tiles_in_parts<IntegerPart<Products, Plain, UnpackedScales<1>>>());
    if constexpr (requires { typename Quads::UnitWords; }) {
      row.in_parts.at_least = kPackedInParts;
      row.tile_in_parts = tiles_in_parts<PackedIntegerPart<Products, Quads>, kMostHeldRows + 1>(row.tile);
    }
  }
  return row;
}

// A row for the digits of x.
template <class Products, class Quads>
constexpr GemmKernel digit_kernel(const char* name, bool (*takes)(const WeightFormat&), const char* formats) {
  constexpr auto all_rows = std::make_integer_sequence<int, kTileRows / kDigits>();
  using Plain = PlainQuads<Quads::largest, Quads::bias>;
  GemmKernel row = integer_kernel<Products, Quads>(name, takes, formats);
  row.tokens = kAllTokens;
  row.codes = TokenFormat::none;
  row.arithmetic = Arithmetic::i8_digits;
  row.numbers = kDigitNumbers;
  row.max_rows = kTileRows / kDigits;
  row.tile = integer_tiles<Products, Quads, RunScales, QuadRows, kDigits>(all_rows);
  row.sum_segments = sum_digit_quads<Products>;
  row.row_sums = kDigits;
  row.unpacked.tile = integer_tiles<Products, Plain, UnpackedScales<1>, QuadRows, kDigits>(all_rows);
  row.in_parts = {};  // the digits of few rows fill a tile
  row.tile_in_parts = {};
  return row;
}

// A row for integer codes of x, or its digits, and weights whose panels have such factors.
template <class Products, class Quads, class InPanel, FactorOffset offset, int digits>
constexpr GemmKernel factor_kernel_of(const char* name, bool (*takes)(const WeightFormat&), const char* formats) {
  constexpr auto all_rows = std::make_integer_sequence<int, kTileRows / digits>();
  GemmKernel row = digits == 1 ? integer_kernel<Products, Quads>(name, takes, formats)
                               : digit_kernel<Products, Quads>(name, takes, formats);
  row.numbers = kFactorNumbers;
  if constexpr (digits != 1) {
    row.numbers = kDigitFactorNumbers;
    row.sum_segments = sum_numbers<Products>;
    row.row_sums = 1;
  }
  row.tile = factor_tiles<Products, Quads, InPanel, offset, QuadRows, digits>(all_rows);
  row.unpacked = row.in_parts = {};
  row.tile_in_parts = {};
  constexpr UnpackFunction unpack = unpack_bytes_and_factors<Quads, InPanel>;
  using Plain = PlainQuads<Quads::largest, Quads::bias>;
  using Unpacked = UnpackedFactors<InPanel>;
  if constexpr (unpacks_once(kReadsCheaply<Quads>)) {
    row.unpacked = unpacked_bytes(unpack, factor_tiles<Products, Plain, Unpacked, offset, QuadRows, digits>(all_rows));
  }
  if constexpr (digits == 1 && kHasIntegerParts<Products>) {
    row.in_parts = unpacked_bytes(unpack, tiles_in_parts<FactorPart<Products, Plain, Unpacked, offset>>());
    row.in_parts.at_least = kPackedInParts;
    row.tile_in_parts = tiles_in_parts<PackedFactorPart<Products, Quads, InPanel, offset>, kFewRows + 1>(row.tile);
  }
  return row;
}

// The same with integer scales of this type.
template <class Products, class Quads, CodeType code, ScaleType type, int digits = 1>
constexpr GemmKernel factor_kernel(const char* name, const char* formats) {
  constexpr FactorOffset offset = kFactorOffset<code, Quads::bias>;
  using InPanel = PanelFactors<type, Products::multiplies_pairs, offset>;
  return factor_kernel_of<Products, Quads, InPanel, offset, digits>(name, takes_factors<code, Quads::bits, type>,
                                                                    formats);
}

template <class Products>
constexpr std::array kIntegerGemm = {
    integer_kernel<Products, FieldQuads<2>>("i2_int8", takes_integers<2>, "i2, u2"),
    integer_kernel<Products, PlaneQuads<3>>("i3_int8", takes_integers<3>, "i3, u3"),
    integer_kernel<Products, FieldQuads<4>>("i4_int8", takes_integers<4>, "i4, u4"),
    integer_kernel<Products, PlaneQuads<5>>("i5_int8", takes_integers<5>, "i5, u5"),
    integer_kernel<Products, PlaneQuads<6>>("i6_int8", takes_integers<6>, "i6, u6"),
    integer_kernel<Products, ByteQuads<Products::signed_bytes>>("i8_int8", takes_integers<8>, "i8, u8"),
    integer_kernel<Products, SmallTableQuads>("small_table_int8", takes_integer_table<4, 16>, "e2m1"),
    integer_kernel<Products, WideTableQuads<Products::signed_bytes>>("integer_table_int8", takes_integer_table<4>,
                                                                     "iq4"),
};

// Faster than products of float32 unless groups are short: each group scales its sums, for only four rows at once.
template <class Products, class Quads, bool (*takes)(const WeightFormat&)>
constexpr GemmKernel group_digit_kernel(const char* name, const char* formats) {
  return digit_kernel<Products, Quads>(name, takes_in_groups<takes, 32>, formats);
}

template <class Products>
constexpr std::array kDigitKernels = {
    group_digit_kernel<Products, FieldQuads<2>, takes_integers<2>>("i2_digits", "i2, u2, groups from 32"),
    group_digit_kernel<Products, PlaneQuads<3>, takes_integers<3>>("i3_digits", "i3, u3, groups from 32"),
    group_digit_kernel<Products, FieldQuads<4>, takes_integers<4>>("i4_digits", "i4, u4, groups from 32"),
    group_digit_kernel<Products, PlaneQuads<5>, takes_integers<5>>("i5_digits", "i5, u5, groups from 32"),
    group_digit_kernel<Products, PlaneQuads<6>, takes_integers<6>>("i6_digits", "i6, u6, groups from 32"),
    group_digit_kernel<Products, ByteQuads<Products::signed_bytes>, takes_integers<8>>("i8_digits",
                                                                                       "i8, u8, groups from 32"),
    group_digit_kernel<Products, SmallTableQuads, takes_integer_table<4, 16>>("small_table_digits",
                                                                              "e2m1, groups from 32"),
    group_digit_kernel<Products, WideTableQuads<Products::signed_bytes>, takes_integer_table<4>>("integer_table_digits",
                                                                                                 "iq4, groups from 32"),
};

template <class Products, int digits>
constexpr auto factor_kernels(const std::array<const char*, 7>& names) {
  using Table = WideTableQuads<Products::signed_bytes>;
  return std::array{
      factor_kernel<Products, FieldQuads<2>, CodeType::unsigned_integer, ScaleType::u4, digits>(names[0], "q2_k"),
      factor_kernel<Products, PlaneQuads<3>, CodeType::signed_integer, ScaleType::i8, digits>(names[1], "q3_k"),
      factor_kernel<Products, FieldQuads<4>, CodeType::unsigned_integer, ScaleType::u6, digits>(names[2], "q4_k"),
      factor_kernel<Products, PlaneQuads<5>, CodeType::unsigned_integer, ScaleType::u6, digits>(names[3], "q5_k"),
      factor_kernel<Products, PlaneQuads<6>, CodeType::signed_integer, ScaleType::i8, digits>(names[4], "q6_k"),
      factor_kernel<Products, Table, CodeType::table, ScaleType::i8, digits>(names[5], "iq3, iq4_xs"),
      factor_kernel<Products, NarrowTableQuads, CodeType::table, ScaleType::i8, digits>(names[6], "iq1, iq2"),
  };
}

template <class Products>
constexpr auto kFactorGemm = factor_kernels<Products, 1>(
    {"q2_k_int8", "q3_k_int8", "q4_k_int8", "q5_k_int8", "q6_k_int8", "iq4_xs_int8", "iq2_xs_int8"});

template <class Products>
constexpr auto kDigitFactorKernels = joined(
    factor_kernels<Products, kDigits>(
        {"q2_k_digits", "q3_k_digits", "q4_k_digits", "q5_k_digits", "q6_k_digits", "iq4_xs_digits", "iq2_xs_digits"}),
    std::array{
        factor_kernel_of<Products, SmallTableQuads, PanelFloatFactors<ScaleType::e4m3>, FactorOffset::bias, kDigits>(
            "nvfp4_digits", takes_float_factors<takes_integer_table<4, 16>, ScaleType::e4m3>, "nvfp4")});
