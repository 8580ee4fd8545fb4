// Products of floats with the codes of quantised weights in tile registers. See groups.h here.
//
// bfloat16 holds the codes exactly, so a group's products are those of floats.h; tokens are packed for both alike.

// Pairs of consecutive k are the rows of registers. `Codes` have pair(), as LookedUpCodes have it.
template <class Codes>
struct HalfPairs {
  using Elements = HalfElements;
  static constexpr int bits = Codes::bits;

  explicit HalfPairs(const PanelScales& scales) : codes(scales) {}
  void unpack(const char* unit, char* rows) const {
    unpack(unit, rows, [](Words pairs, int) { return pairs; });
  }
  // Stores change(pairs, vector of columns) instead.
  template <class Change>
  void unpack(const char* unit, char* rows, Change&& change) const {
    unpack(unit, rows, change, std::make_integer_sequence<int, kUnit / Codes::chunk>());
  }

 private:
  template <class Change, int... chunk>
  void unpack(const char* unit, char* rows, Change& change, std::integer_sequence<int, chunk...>) const {
    (unpack_chunk<chunk * Codes::chunk>(unit, rows + chunk * Codes::chunk / 2 * kWeightStride, change,
                                        std::make_integer_sequence<int, Codes::chunk / 2>()),
     ...);
  }
  template <int first, class Change, int... pair>
  void unpack_chunk(const char* unit, char* rows, Change& change, std::integer_sequence<int, pair...>) const {
    typename Codes::Bits words[kPanelVectors];
    codes.template load<first>(unit, words);
    (unpack_pair<first + 2 * pair>(words, rows + pair * kWeightStride, change), ...);
  }
  template <int k, class Change>
  void unpack_pair(const typename Codes::Bits (&words)[kPanelVectors], char* row, Change& change) const {
#pragma GCC unroll 2
    for (int j = 0; j < kPanelVectors; ++j) change(codes.template pair<k>(words[j]), j).store(row + 4 * j * kWidth);
  }

  Codes codes;
};

// See SumFunction: of rows of 64 bytes, small parts first.
template <int parts>
void sum_register_halves(const void* tile, int64_t segments, int segment, int rows, float* sums) {
  const char* x = static_cast<const char*>(tile);
  const int64_t part_bytes = int64_t{rows} * kTileRegisterBytes;
  for (int64_t s = 0; s < segments; ++s) {
    const int64_t k = s * segment;
    const char* row = x + k / kTileK * parts * part_bytes + k % kTileK * int64_t{sizeof(bf16)};
    for (int r = 0; r < rows; ++r, row += kTileRegisterBytes) {
      Vector sum = Vector::zero();
      for (int part = parts - 1; part >= 0; --part) {
        const auto* values = reinterpret_cast<const bf16*>(row + part * part_bytes);
        for (int i = 0; i < segment; i += kWidth) sum = sum + Vector::load(values + i);
      }
      *sums++ = sum.sum();
    }
  }
}

// How pairs of codes of `bits` bits are read.
template <int bits>
using PairCodes = std::conditional_t<kLooksUpPairs, LookedUpCodes<PlacedIndices<bits>>, PairsOf<PlacedIntegers<bits>>>;
template <int bits, class Codes>
using TablePairCodes = std::conditional_t<kLooksUpPairs, LookedUpCodes<PlacedIndices<bits>>, PairsOf<Codes>>;
using IntegerTablePairs = TablePairCodes<4, IntegerTableCodes>;
using NarrowTablePairs = TablePairCodes<3, NarrowTableCodes>;

// A row for codes that are unpacked to bfloat16, without its functions.
template <class Tiles, Arithmetic arithmetic>
constexpr GemmKernel unpacking_kernel(const char* name, DType tokens, bool (*takes)(const WeightFormat&),
                                      const char* formats, const char* numbers) {
  return {.name = name,
          .tokens = tokens_of(tokens),
          .arithmetic = arithmetic,
          .takes = takes,
          .formats = formats,
          .panels = coded_panels,
          .numbers = numbers,
          .max_rows = kMaxTileRows,
          .unpacked = {.code_bytes = HalfElements::bytes},
          .streams = kPrefetchStreams,
          .ahead = true,
          .blocking = kTileBlocking,
          .release = release_tiles<Tiles>};
}

template <class Tiles, class Codes, Arithmetic arithmetic>
constexpr GemmKernel code_tile_kernel(const char* name, DType tokens, bool (*takes)(const WeightFormat&),
                                      const char* formats) {
  constexpr int parts = parts_of(arithmetic);
  GemmKernel kernel = unpacking_kernel<Tiles, arithmetic>(
      name, tokens, takes, formats,
      "exact products with codes, 32 at a time summed in float32 and scaled, group by group");
  kernel.tile = group_tiles<Tiles, PanelColumns<HalfPairs<Codes>>, parts>();
  kernel.sum_segments = sum_register_halves<parts>;
  kernel.unpacked.unpack = unpack_codes<HalfPairs<Codes>>;
  kernel.unpacked.tile = group_tiles<Tiles, UnpackedColumns<HalfElements>, parts>();
  return kernel;
}

// For tokens of one dtype.
template <class Tiles, class E4M3Pairs, Arithmetic arithmetic>
constexpr auto code_tile_kernels(DType tokens, const std::array<const char*, 9>& names) {
  return std::array{
      code_tile_kernel<Tiles, PairCodes<2>, arithmetic>(names[0], tokens, takes_integers<2>, "i2, u2"),
      code_tile_kernel<Tiles, PairCodes<3>, arithmetic>(names[1], tokens, takes_integers<3>, "i3, u3"),
      code_tile_kernel<Tiles, PairCodes<4>, arithmetic>(names[2], tokens, takes_integers<4>, "i4, u4"),
      code_tile_kernel<Tiles, PairCodes<5>, arithmetic>(names[3], tokens, takes_integers<5>, "i5, u5"),
      code_tile_kernel<Tiles, PairCodes<6>, arithmetic>(names[4], tokens, takes_integers<6>, "i6, u6"),
      code_tile_kernel<Tiles, PairsOf<ByteCodes>, arithmetic>(names[5], tokens, takes_integers<8>, "i8, u8"),
      code_tile_kernel<Tiles, E4M3Pairs, arithmetic>(names[6], tokens, takes_code<CodeType::e4m3>, "e4m3"),
      code_tile_kernel<Tiles, IntegerTablePairs, arithmetic>(names[7], tokens, takes_integer_table<4>,
                                                             "e2m1, iq3, iq4"),
      code_tile_kernel<Tiles, NarrowTablePairs, arithmetic>(names[8], tokens, takes_integer_table<3>, "iq1, iq2"),
  };
}

template <class Tiles, class E4M3Pairs>
constexpr auto kCodeTileGemm =
    joined(code_tile_kernels<Tiles, E4M3Pairs, Arithmetic::bf16_tiles>(
               DType::bf16, {"i2_tiles", "i3_tiles", "i4_tiles", "i5_tiles", "i6_tiles", "i8_tiles", "e4m3_tiles",
                             "integer_table_tiles", "narrow_table_tiles"}),
           code_tile_kernels<Tiles, E4M3Pairs, Arithmetic::bf16_tiles_of_two>(
               DType::f16, {"f16_i2_tiles", "f16_i3_tiles", "f16_i4_tiles", "f16_i5_tiles", "f16_i6_tiles",
                            "f16_i8_tiles", "f16_e4m3_tiles", "f16_integer_table_tiles", "f16_narrow_table_tiles"}),
           code_tile_kernels<Tiles, E4M3Pairs, Arithmetic::bf16_tiles_of_three>(
               DType::f32, {"f32_i2_tiles", "f32_i3_tiles", "f32_i4_tiles", "f32_i5_tiles", "f32_i6_tiles",
                            "f32_i8_tiles", "f32_e4m3_tiles", "f32_integer_table_tiles", "f32_narrow_table_tiles"}));
