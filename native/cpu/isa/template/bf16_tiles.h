// Products of bfloat16 in tile registers. Included inside a target region, after a policy such as HardwareTiles.
//
// A tile of x has at most 32 rows, a panel 32 columns: two registers of x, two of weights, and four of sums. Up to 16
// rows take half of them. Sums run over k in order, 32 at a time, whatever the number of rows.

constexpr int kTileColumns = 16;     // of float32 in a register
constexpr int kStepBytes = 32 * 64;  // of 32 k in a panel

template <int rows>
struct Bf16Shapes {
  static constexpr int first = rows < kTileRegisterRows ? rows : kTileRegisterRows;
  static constexpr int second = rows - first;

  static constexpr TileConfiguration configuration() {
    TileConfiguration shapes;
    for (const int tile : {0, 4, 5}) shapes.set(tile, first);
    for (const int tile : {2, 3}) shapes.set(tile, kTileRegisterRows);
    if (second > 0) {
      for (const int tile : {1, 6, 7}) shapes.set(tile, second);
    }
    return shapes;
  }
  static constexpr TileConfiguration kShapes = configuration();
};

// The shapes that this thread's registers have; null: none. Reading it is cheaper than to configure them again.
inline thread_local const TileConfiguration* configured_tiles = nullptr;

template <class Tiles>
void release_tiles() {
  Tiles::release();
  configured_tiles = nullptr;
}

template <class Tiles, bool streams, int tile>
inline void load_weights(const char* source, int64_t stride) {
  if constexpr (streams) {
    Tiles::template stream<tile>(source, stride);
  } else {
    Tiles::template load<tile>(source, stride);
  }
}

// 32 k. Rows of weights that several tiles share stay in the first-level cache, and rows of x pass through it; a single
// tile's weights pass through it.
template <class Tiles, int rows, bool shared>
inline void multiply_step(const char* x, const char* w) {
  constexpr int64_t kPanelStride = 2 * kTileRegisterBytes;
  load_weights<Tiles, shared, 0>(x, kTileRegisterBytes);
  load_weights<Tiles, !shared, 2>(w, kPanelStride);
  Tiles::template multiply_bf16<4, 0, 2>();
  load_weights<Tiles, !shared, 3>(w + kTileRegisterBytes, kPanelStride);
  Tiles::template multiply_bf16<5, 0, 3>();
  if constexpr (rows > kTileRegisterRows) {
    load_weights<Tiles, shared, 1>(x + kTileRegisterRows * kTileRegisterBytes, kTileRegisterBytes);
    Tiles::template multiply_bf16<6, 1, 2>();
    Tiles::template multiply_bf16<7, 1, 3>();
  }
}

template <class Tiles, int rows, bool shared>
inline void multiply_steps(const TileArguments& t) {
  const char* x = static_cast<const char*>(t.x);
  const char* w = t.w;
  const char* prefetch = t.prefetch;
  const int64_t steps = t.k / 32;
  const int64_t lines = steps > 0 ? (t.prefetch_lines + steps - 1) / steps : 0;
  for (int64_t step = 0; step < steps; ++step) {
    for (int64_t line = 0; line < lines; ++line, prefetch += 64) __builtin_prefetch(prefetch, 0, 2);
    multiply_step<Tiles, rows, shared>(x, w);
    x += rows * kTileRegisterBytes;
    w += kStepBytes;
  }
}

template <class Tiles, int rows>
void bf16_tile(const TileArguments& t) {
  constexpr bool two = rows > kTileRegisterRows;
  const TileConfiguration* shapes = &Bf16Shapes<rows>::kShapes;
  if (configured_tiles != shapes) {
    Tiles::configure(*shapes);
    configured_tiles = shapes;
  }
  const int64_t columns = t.c_stride == 0 ? 2 * kTileColumns : t.c_stride;
  const int64_t stride = columns * static_cast<int64_t>(sizeof(float));
  float* second = t.c + kTileRegisterRows * columns;
  if (t.accumulate) {
    Tiles::template load<4>(t.c, stride);
    Tiles::template load<5>(t.c + kTileColumns, stride);
    if constexpr (two) {
      Tiles::template load<6>(second, stride);
      Tiles::template load<7>(second + kTileColumns, stride);
    }
  } else {
    Tiles::template zero<4>();
    Tiles::template zero<5>();
    if constexpr (two) {
      Tiles::template zero<6>();
      Tiles::template zero<7>();
    }
  }
  t.next == nullptr ? multiply_steps<Tiles, rows, true>(t) : multiply_steps<Tiles, rows, false>(t);
  Tiles::template store<4>(t.c, stride);
  Tiles::template store<5>(t.c + kTileColumns, stride);
  if constexpr (two) {
    Tiles::template store<6>(second, stride);
    Tiles::template store<7>(second + kTileColumns, stride);
  }
}

template <class Tiles, int... row>
constexpr std::array<TileFunction, kMaxTileRows + 1> bf16_tile_functions(std::integer_sequence<int, row...>) {
  return {nullptr, &bf16_tile<Tiles, row + 1>...};
}

template <class Tiles>
constexpr GemmKernel bf16_tile_kernel() {
  return {.name = "bf16_tiles",
          .tokens = tokens_of(DType::bf16),
          .arithmetic = Arithmetic::bf16_tiles,
          .takes = takes_code<CodeType::bf16>,
          .formats = "bf16",
          .panels = bf16_tile_panels,
          .numbers = "exact products, 32 at a time summed in float32",
          .max_rows = 2 * kTileRegisterRows,
          .tile = bf16_tile_functions<Tiles>(std::make_integer_sequence<int, 2 * kTileRegisterRows>()),
          .longest_k = 512,
          .release = release_tiles<Tiles>};
}

// Multiplies the same operands over and over, from the first-level cache.
template <class Tiles>
void bf16_tile_peak(int64_t iterations) {
  alignas(64) static constexpr char kOperands[2 * kTileRegisterRows * kTileRegisterBytes] = {};
  Tiles::configure(Bf16Shapes<32>::kShapes);
  Tiles::template zero<4>();
  Tiles::template zero<5>();
  Tiles::template zero<6>();
  Tiles::template zero<7>();
  for (int64_t i = 0; i < iterations; ++i) multiply_step<Tiles, 32, true>(kOperands, kOperands);
  release_tiles<Tiles>();
}
template <class Tiles>
constexpr PeakLoop kBf16TilePeak = {bf16_tile_peak<Tiles>, 2.0 * 32 * 32 * 32};
