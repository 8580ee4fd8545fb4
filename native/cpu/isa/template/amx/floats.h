// Products of floats in tile registers. See tile_shapes.h here.
//
// Registers multiply bfloat16. Numbers with more bits are the sums of two or three parts of bfloat16, largest first;
// the products of parts i and j with i + j > 2 are below float32's precision and left out. Sums run over k in order, 32
// at a time, whatever the number of rows.

constexpr int kTileK = 32;

constexpr ShapesByRows kFloatShapes = shapes_by_rows(kTileRegisterBytes);

// Bytes of 32 k of one part: of a row, and of a panel.
constexpr int64_t kRowPartBytes = kTileK * sizeof(bf16);
constexpr int64_t kPanelPartBytes = kRowPartBytes * kPanelColumns;

// 32 k. Small products come first.
template <class Tiles, int x_parts, int w_parts, bool two, bool shared>
inline void multiply_parts(const char* x, int64_t x_part_bytes, const char* w) {
  constexpr int last = x_parts - 1 < 2 ? x_parts - 1 : 2;
  int rows_loaded = -1, columns_loaded = -1;
#pragma GCC unroll 8
  for (int order = last + w_parts - 1 < 2 ? last + w_parts - 1 : 2; order >= 0; --order) {
#pragma GCC unroll 3
    for (int i = x_parts - 1; i >= 0; --i) {
      const int j = order - i;
      if (j < 0 || j >= w_parts) continue;
      if (i != rows_loaded) load_rows<Tiles, shared, two>(x + i * x_part_bytes);
      if (j != columns_loaded) load_columns<Tiles, !shared>(w + j * kPanelPartBytes);
      rows_loaded = i;
      columns_loaded = j;
      multiply_registers<Tiles, two, false>();
    }
  }
}

template <class Tiles, int x_parts, int w_parts, bool two, bool shared>
inline void multiply_all_parts(const TileArguments& t) {
  const char* x = static_cast<const char*>(t.x);
  const char* w = t.w;
  const char* prefetch = t.prefetch;
  const int64_t steps = t.k / kTileK, x_part_bytes = t.rows * kRowPartBytes;
  const int64_t lines = steps > 0 ? (t.prefetch_lines + steps - 1) / steps : 0;
  for (int64_t step = 0; step < steps; ++step) {
    for (int64_t line = 0; line < lines; ++line, prefetch += 64) __builtin_prefetch(prefetch, 0, 2);
    multiply_parts<Tiles, x_parts, w_parts, two, shared>(x, x_part_bytes, w);
    x += x_parts * x_part_bytes;
    w += w_parts * kPanelPartBytes;
  }
}

template <class Tiles, int x_parts, int w_parts, bool two>
void float_tile(const TileArguments& t) {
  configure_tiles<Tiles>(kFloatShapes[t.rows]);
  const int64_t stride = t.c_stride == 0 ? kWeightStride : t.c_stride * static_cast<int64_t>(sizeof(float));
  t.accumulate ? load_sums<Tiles, two>(t.c, stride) : zero_sums<Tiles, two>();
  t.next == nullptr ? multiply_all_parts<Tiles, x_parts, w_parts, two, true>(t)
                    : multiply_all_parts<Tiles, x_parts, w_parts, two, false>(t);
  store_sums<Tiles, two>(t.c, stride);
}

// Those of multiply_parts().
constexpr int products_of_parts(int x_parts, int w_parts) {
  int count = 0;
  for (int i = 0; i < x_parts; ++i) {
    for (int j = 0; j < w_parts; ++j) count += i + j <= 2 ? 1 : 0;
  }
  return count;
}

// Tokens of one dtype times weights of a plain format.
template <class Tiles, int x_parts, int w_parts>
constexpr GemmKernel float_tile_kernel(GemmKernel row) {
  row.products = products_of_parts(x_parts, w_parts);
  row.max_rows = kMaxTileRows;
  row.tile = by_rows(float_tile<Tiles, x_parts, w_parts, false>, float_tile<Tiles, x_parts, w_parts, true>);
  row.release = release_tiles<Tiles>;
  return row;
}

template <class Tiles>
constexpr std::array kFloatTileGemm = {
    float_tile_kernel<Tiles, 1, 1>({.name = "bf16_tiles",
                                    .tokens = tokens_of(DType::bf16),
                                    .arithmetic = Arithmetic::bf16_tiles,
                                    .takes = takes_code<CodeType::bf16>,
                                    .formats = "bf16",
                                    .panels = bf16_tile_panels,
                                    .numbers = "exact products, 32 at a time added to float32 sums",
                                    .longest_k = 512}),
    float_tile_kernel<Tiles, 2, 1>({.name = "f16_bf16_tiles",
                                    .tokens = tokens_of(DType::f16),
                                    .arithmetic = Arithmetic::bf16_tiles_of_two,
                                    .takes = takes_code<CodeType::bf16>,
                                    .formats = "bf16",
                                    .panels = bf16_tile_panels,
                                    .numbers = "tokens as two bf16, exact products, float32 sums",
                                    .longest_k = 512}),
    float_tile_kernel<Tiles, 3, 1>({.name = "f32_bf16_tiles",
                                    .tokens = tokens_of(DType::f32),
                                    .arithmetic = Arithmetic::bf16_tiles_of_three,
                                    .takes = takes_code<CodeType::bf16>,
                                    .formats = "bf16",
                                    .panels = bf16_tile_panels,
                                    .numbers = "tokens as three bf16, exact products, float32 sums",
                                    .longest_k = 512}),
};

// Multiplies the same operands over and over, from the first-level cache.
template <class Tiles>
void float_tile_peak(int64_t iterations) {
  alignas(64) static constexpr char kOperands[kMaxTileRows * kTileRegisterBytes] = {};
  configure_tiles<Tiles>(kFloatShapes[kMaxTileRows]);
  zero_sums<Tiles, true>();
  for (int64_t i = 0; i < iterations; ++i) multiply_parts<Tiles, 1, 1, true, true>(kOperands, 0, kOperands);
  release_tiles<Tiles>();
}
template <class Tiles>
constexpr PeakLoop kFloatTilePeak = {float_tile_peak<Tiles>, 2.0 * kMaxTileRows* kPanelColumns* kTileK};
