// Products of floats with bfloat16 weights in tile registers. See shapes.h here.
//
// Registers multiply bfloat16. Numbers with more bits are the sums of two or three parts of bfloat16, largest first.
// Sums run over k in order, 32 at a time, whatever the number of rows.

constexpr int kTileK = 32;

constexpr ShapesByRows kFloatShapes = shapes_by_rows(kTileRegisterBytes);

// Bytes of 32 k: of one part of a row, and of a panel.
constexpr int64_t kRowPartBytes = kTileK * sizeof(bf16);
constexpr int64_t kPanelStepBytes = kRowPartBytes * kPanelColumns;

// Either the rows pass through the cache, whose tiles share the columns, or the columns.
template <class Tiles, int parts, bool two, bool shared>
inline void multiply_all_steps(const TileArguments& t) {
  const char* x = static_cast<const char*>(t.x);
  const char* w = t.w;
  // Unpacked codes may end within a step: zeros follow them.
  const int64_t part_bytes = t.rows * kRowPartBytes, steps = (t.k + kTileK - 1) / kTileK;
  BesideProducts beside(t, steps);
  for (int64_t step = 0; step < steps; ++step) {
    beside.step();
    multiply_step<Tiles, false, parts, two, shared, !shared>(x, part_bytes, w);
    x += parts * part_bytes;
    w += kPanelStepBytes;
  }
}

template <class Tiles, int parts, bool two>
void float_tile(const TileArguments& t) {
  configure_tiles<Tiles>(kFloatShapes[t.rows]);
  const int64_t stride = t.c_stride == 0 ? kWeightStride : t.c_stride * static_cast<int64_t>(sizeof(float));
  t.accumulate ? load_sums<Tiles, two>(t.c, stride) : zero_sums<Tiles, two>();
  t.next == nullptr ? multiply_all_steps<Tiles, parts, two, true>(t) : multiply_all_steps<Tiles, parts, two, false>(t);
  store_sums<Tiles, two>(t.c, stride);
}

// A panel's block of k stays in the first-level cache, and sums leave the second-level one to rows and to weights that
// are prefetched.
constexpr Blocking kTileBlocking = {.longest_k = 512, .sum_bytes = int64_t{64} << 10};

// Tokens of one dtype.
template <class Tiles, Arithmetic arithmetic>
constexpr GemmKernel float_tile_kernel(const char* name, DType tokens, const char* numbers) {
  return {
      .name = name,
      .tokens = tokens_of(tokens),
      .arithmetic = arithmetic,
      .takes = takes_code<CodeType::bf16>,
      .formats = "bf16",
      .panels = bf16_tile_panels,
      .numbers = numbers,
      .max_rows = kMaxTileRows,
      .tile = by_rows(float_tile<Tiles, parts_of(arithmetic), false>, float_tile<Tiles, parts_of(arithmetic), true>),
      .streams = kPrefetchStreams,
      .ahead = true,
      .one_stream_rows = 8,
      .blocking = kTileBlocking,
      .release = release_tiles<Tiles>};
}

template <class Tiles>
constexpr std::array kFloatTileGemm = {
    float_tile_kernel<Tiles, Arithmetic::bf16_tiles>("bf16_tiles", DType::bf16,
                                                     "exact products, 32 at a time added to float32 sums"),
    float_tile_kernel<Tiles, Arithmetic::bf16_tiles_of_two>("f16_bf16_tiles", DType::f16,
                                                            "tokens as two bf16, exact products, float32 sums"),
    float_tile_kernel<Tiles, Arithmetic::bf16_tiles_of_three>("f32_bf16_tiles", DType::f32,
                                                              "tokens as three bf16, exact products, float32 sums"),
};

// Multiplies the same operands over and over, from the first-level cache.
template <class Tiles>
void float_tile_peak(int64_t iterations) {
  const char* operands = kPeakOperands<kMaxTileRows * kTileRegisterBytes>.bytes;
  configure_tiles<Tiles>(kFloatShapes[kMaxTileRows]);
  zero_sums<Tiles, true>();
  for (int64_t i = 0; i < iterations; ++i) multiply_step<Tiles, false, 1, true>(operands, 0, operands);
  release_tiles<Tiles>();
}
template <class Tiles>
constexpr PeakLoop kFloatTilePeak = {float_tile_peak<Tiles>, 2.0 * kMaxTileRows* kPanelColumns* kTileK};
