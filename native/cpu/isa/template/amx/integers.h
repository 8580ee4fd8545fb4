// Products of 8-bit integer rows with the codes of quantised weights in tile registers. See groups.h here.
//
// Sums are exact in 32 bits and scaled as vectors do it, so the bits are those of every instruction set: a single tile
// of few rows, for which memory is too slow anyway, is left to vectors, which need no unpacking.

constexpr int kVectorRows = 8;

// The classes that vectors read codes with (integer_tiles.h): their words, less `lowered` in every byte, are the rows
// of registers.
template <class Quads, int lowered = Quads::bias>
struct RegisterBytes {
  using Elements = ByteElements;
  static constexpr int bits = Quads::bits;

  explicit RegisterBytes(const PanelScales& scales) : quads(scales) {}
  void unpack(const char* unit, char* rows) const { unpack(unit, rows, std::make_integer_sequence<int, kUnit / 4>()); }

 private:
  template <int... quad>
  void unpack(const char* unit, char* rows, std::integer_sequence<int, quad...>) const {
    (unpack_quad<quad>(unit, rows + quad * kWeightStride), ...);
  }
  template <int quad>
  void unpack_quad(const char* unit, char* row) const {
    Words w[kPanelVectors];
    quads.template load<quad>(unit, w);
#pragma GCC unroll 2
    for (int j = 0; j < kPanelVectors; ++j) {
      (lowered == 0 ? w[j] : w[j].bytes_lowered(lowered)).store(row + 4 * j * kWidth);
    }
  }

  Quads quads;
};

// See SumFunction: of rows of 64 bytes.
inline void sum_register_bytes(const void* tile, int64_t segments, int segment, int rows, float* sums) {
  const auto* x = static_cast<const int8_t*>(tile);
  for (int64_t s = 0; s < segments; ++s, sums += rows) {
    const int64_t k = s * segment;
    for (int r = 0; r < rows; ++r) {
      const int8_t* row = x + (k / kTileRegisterBytes * rows + r) * kTileRegisterBytes + k % kTileRegisterBytes;
      int32_t sum = 0;
      for (int i = 0; i < segment; ++i) sum += row[i];
      sums[r] = static_cast<float>(sum);
    }
  }
}

template <class Tiles, class Products, class Quads, class Signed>
constexpr TileFunctions register_integer_tiles() {
  auto functions = group_tiles<Tiles, PanelColumns<RegisterBytes<Signed>>, 1>();
  const auto few =
      integer_tiles<Products, Quads, RunScales, RegisterRows>(std::make_integer_sequence<int, kVectorRows>());
  for (int rows = 1; rows <= kVectorRows; ++rows) functions[rows] = few[rows];
  return functions;
}

// `Quads` are read by vectors, `Signed` are unpacked.
template <class Tiles, class Products, class Quads, class Signed = Quads>
constexpr GemmKernel register_integer_kernel(const char* name, bool (*takes)(const WeightFormat&),
                                             const char* formats) {
  return {.name = name,
          .codes = TokenFormat::int8,
          .arithmetic = Arithmetic::i8_tiles,
          .takes = takes,
          .formats = formats,
          .panels = coded_panels,
          .numbers = kIntegerNumbers,
          .max_rows = kMaxTileRows,
          .tile = register_integer_tiles<Tiles, Products, Quads, Signed>(),
          .sum_segments = sum_register_bytes,
          .biased_rows = kVectorRows,
          .unpacked = {.unpack = unpack_codes<RegisterBytes<Signed>>,
                       .code_bytes = ByteElements::bytes,
                       .tile = group_tiles<Tiles, UnpackedColumns<ByteElements>, 1>()},
          .streams = kPrefetchStreams,
          .release = release_tiles<Tiles>};
}

template <class Tiles, class Products>
constexpr std::array kRegisterIntegerGemm = {
    register_integer_kernel<Tiles, Products, FieldQuads<2>>("i2_int8_tiles", takes_integers<2>, "i2, u2"),
    register_integer_kernel<Tiles, Products, PlaneQuads<3>>("i3_int8_tiles", takes_integers<3>, "i3, u3"),
    register_integer_kernel<Tiles, Products, FieldQuads<4>>("i4_int8_tiles", takes_integers<4>, "i4, u4"),
    register_integer_kernel<Tiles, Products, PlaneQuads<5>>("i5_int8_tiles", takes_integers<5>, "i5, u5"),
    register_integer_kernel<Tiles, Products, PlaneQuads<6>>("i6_int8_tiles", takes_integers<6>, "i6, u6"),
    register_integer_kernel<Tiles, Products, ByteQuads<Products::signed_bytes>, ByteQuads<true>>(
        "i8_int8_tiles", takes_integers<8>, "i8, u8"),
    register_integer_kernel<Tiles, Products, WideTableQuads<Products::signed_bytes>, WideTableQuads<true>>(
        "integer_table_int8_tiles", takes_integer_table<4>, "e2m1, iq4"),
};

// As float_tile_peak().
template <class Tiles>
void register_integer_peak(int64_t iterations) {
  const char* operands = kPeakOperands<kMaxTileRows * kTileRegisterBytes>.bytes;
  configure_tiles<Tiles>(kGroupShapes[0][kMaxTileRows]);
  zero_sums<Tiles, true>();
  for (int64_t i = 0; i < iterations; ++i) multiply_step<Tiles, true, 1, true, false>(operands, 0, operands);
  release_tiles<Tiles>();
}
template <class Tiles>
constexpr PeakLoop kRegisterIntegerPeak = {register_integer_peak<Tiles>,
                                           2.0 * kMaxTileRows* kPanelColumns* kTileRegisterBytes};
