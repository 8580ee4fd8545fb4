// The shapes of tile registers for products. Included inside a target region, after a policy such as HardwareTiles.
//
// A tile of x has at most 32 rows in registers 0 and 1, a panel at most 32 columns in registers 2 and 3, and their sums
// take registers 4 to 7. Up to 16 rows, or columns, take only the first of each pair.

constexpr int kColumnRegisters = kPanelColumns > 16 ? 2 : 1;
constexpr int kRegisterColumns = kPanelColumns / kColumnRegisters;
constexpr int64_t kWeightStride = 4 * kPanelColumns;  // bytes from a row of weights to the next, and of sums

// Rows of x and of sums have `rows` rows; one of x and one column of weights hold k_bytes bytes of k.
constexpr TileConfiguration tile_shapes(int rows, int k_bytes) {
  TileConfiguration shapes;
  const int first = rows < kTileRegisterRows ? rows : kTileRegisterRows;
  for (const int half : {0, 1}) {
    const int half_rows = half == 0 ? first : rows - first;
    if (half_rows > 0) {
      shapes.set(half, half_rows, k_bytes);
      for (int j = 0; j < kColumnRegisters; ++j) shapes.set(4 + 2 * half + j, half_rows, 4 * kRegisterColumns);
    }
    if (half < kColumnRegisters) shapes.set(2 + half, k_bytes / 4, 4 * kRegisterColumns);
  }
  return shapes;
}

// By rows of x.
using ShapesByRows = std::array<TileConfiguration, kMaxTileRows + 1>;
constexpr ShapesByRows shapes_by_rows(int k_bytes) {
  ShapesByRows all{};
  for (int rows = 1; rows <= kMaxTileRows; ++rows) all[rows] = tile_shapes(rows, k_bytes);
  return all;
}

// The shapes that this thread's registers have; null: none. To compare is cheaper than to configure again.
inline thread_local const TileConfiguration* configured_tiles = nullptr;

template <class Tiles>
inline void configure_tiles(const TileConfiguration& shapes) {
  if (configured_tiles == &shapes) return;
  Tiles::configure(shapes);
  configured_tiles = &shapes;
}

template <class Tiles>
void release_tiles() {
  Tiles::release();
  configured_tiles = nullptr;
}

template <class Tiles, bool two>
inline void zero_sums() {
  Tiles::template zero<4>();
  if constexpr (kColumnRegisters == 2) Tiles::template zero<5>();
  if constexpr (two) {
    Tiles::template zero<6>();
    if constexpr (kColumnRegisters == 2) Tiles::template zero<7>();
  }
}

template <class Tiles, bool two>
inline void load_sums(const float* c, int64_t stride) {
  Tiles::template load<4>(c, stride);
  if constexpr (kColumnRegisters == 2) Tiles::template load<5>(c + kRegisterColumns, stride);
  if constexpr (two) {
    const float* second = c + kTileRegisterRows * stride / static_cast<int64_t>(sizeof(float));
    Tiles::template load<6>(second, stride);
    if constexpr (kColumnRegisters == 2) Tiles::template load<7>(second + kRegisterColumns, stride);
  }
}

template <class Tiles, bool two, class Sum>
inline void store_sums(Sum* c, int64_t stride) {
  Tiles::template store<4>(c, stride);
  if constexpr (kColumnRegisters == 2) Tiles::template store<5>(c + kRegisterColumns, stride);
  if constexpr (two) {
    Sum* second = c + kTileRegisterRows * stride / static_cast<int64_t>(sizeof(Sum));
    Tiles::template store<6>(second, stride);
    if constexpr (kColumnRegisters == 2) Tiles::template store<7>(second + kRegisterColumns, stride);
  }
}

// Operands that many products share stay in the first-level cache; others pass through it.
template <class Tiles, bool passes, int tile>
inline void load_operand(const char* source, int64_t stride) {
  if constexpr (passes) {
    Tiles::template stream<tile>(source, stride);
  } else {
    Tiles::template load<tile>(source, stride);
  }
}

// The rows of x, 64 bytes apart.
template <class Tiles, bool passes, bool two>
inline void load_rows(const char* x) {
  load_operand<Tiles, passes, 0>(x, kTileRegisterBytes);
  if constexpr (two) load_operand<Tiles, passes, 1>(x + kTileRegisterRows * kTileRegisterBytes, kTileRegisterBytes);
}

template <class Tiles, bool passes>
inline void load_columns(const char* w) {
  load_operand<Tiles, passes, 2>(w, kWeightStride);
  if constexpr (kColumnRegisters == 2) load_operand<Tiles, passes, 3>(w + 4 * kRegisterColumns, kWeightStride);
}

// Every row register times every column register.
template <class Tiles, bool two, bool integers>
inline void multiply_registers() {
  const auto multiply = []<int c, int a, int b>() {
    if constexpr (integers) {
      Tiles::template multiply_i8<c, a, b>();
    } else {
      Tiles::template multiply_bf16<c, a, b>();
    }
  };
  multiply.template operator()<4, 0, 2>();
  if constexpr (kColumnRegisters == 2) multiply.template operator()<5, 0, 3>();
  if constexpr (two) {
    multiply.template operator()<6, 1, 2>();
    if constexpr (kColumnRegisters == 2) multiply.template operator()<7, 1, 3>();
  }
}

// A register's k of all parts of the rows. Small products come first. Rows of many tiles pass through the cache.
template <class Tiles, bool integers, int parts, bool two, bool rows_pass = two, bool columns_pass = false>
inline void multiply_step(const char* x, int64_t part_bytes, const char* w) {
  load_columns<Tiles, columns_pass>(w);
#pragma GCC unroll 3
  for (int part = parts - 1; part >= 0; --part) {
    load_rows<Tiles, rows_pass, two>(x + part * part_bytes);
    multiply_registers<Tiles, two, integers>();
  }
}

// `one` has one register of rows, `two` two.
constexpr TileFunctions by_rows(TileFunction one, TileFunction two) {
  TileFunctions functions{};
  for (int rows = 1; rows <= kMaxTileRows; ++rows) functions[rows] = rows <= kTileRegisterRows ? one : two;
  return functions;
}

// What a call does beside its products: in each step of k prefetches and some rows of results. That is little enough
// for a core to have the next products under way meanwhile.
class BesideProducts {
 public:
  BesideProducts(const TileArguments& t, int64_t steps)
      : prefetches_(t, steps), aside_(t.aside), rows_(aside_ == nullptr ? 0 : share_of(aside_->rows, steps)) {}
  [[gnu::always_inline]] void step() {
    prefetches_.round();
    if (rows_ > 0) aside_->finish_rows(rows_);
  }

 private:
  PacedPrefetches prefetches_;
  Aside* const aside_;
  const int rows_;
};
