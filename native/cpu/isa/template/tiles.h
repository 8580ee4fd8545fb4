// Tiles of matrix products. See kernels.h here.

template <int rows>
using Sums = Vector[rows][kPanelVectors];

// Of a panel's row of columns.
template <class Stored>
[[gnu::always_inline]] inline void load_columns(const Stored* from, Vector (&columns)[kPanelVectors]) {
#pragma GCC unroll 2
  for (int j = 0; j < kPanelVectors; ++j) columns[j] = Vector::load(from + j * kWidth);
}

template <int rows>
inline void multiply_add(const float* x, const Vector (&w)[kPanelVectors], Sums<rows>& sums) {
  if constexpr (requires { sums[0][0].multiplies_by_lanes; }) {
    return sums[0][0].template multiply_by_lanes<0, rows>(x, w, sums);
  }
#pragma GCC unroll 16
  for (int r = 0; r < rows; ++r) {
    const Vector value = Vector::broadcast(x[r]);
#pragma GCC unroll 2
    for (int j = 0; j < kPanelVectors; ++j) sums[r][j] = Vector::fma(value, w[j], sums[r][j]);
  }
}

// How one step of a panel, `step` consecutive k in `bytes` bytes, is multiplied by `Value`s of x.
template <class Stored>
struct PlainWeight {
  using Value = float;
  static constexpr int step = 1;
  static constexpr int bytes = kPanelColumns * sizeof(Stored);

  template <int rows>
  static void multiply(const Value* x, const char* panel, Sums<rows>& sums) {
    Vector w[kPanelVectors];
    load_columns(reinterpret_cast<const Stored*>(panel), w);
    multiply_add<rows>(x, w, sums);
  }
};

struct PairedWeight {
  using Value = float;
  static constexpr int step = 2;
  static constexpr int bytes = 2 * kPanelColumns * sizeof(bf16);

  template <int rows>
  static void multiply(const Value* x, const char* panel, Sums<rows>& sums) {
    const bf16* weight = reinterpret_cast<const bf16*>(panel);
    Vector w[kPanelVectors];
#pragma GCC unroll 2
    for (int j = 0; j < kPanelVectors; ++j) w[j] = Vector::load_even(weight + 2 * j * kWidth);
    multiply_add<rows>(x, w, sums);
    // Pairs are read once more: with the sums of the tallest tiles, not enough registers are left to keep them.
    asm("" : "+r"(weight));
#pragma GCC unroll 2
    for (int j = 0; j < kPanelVectors; ++j) w[j] = Vector::load_odd(weight + 2 * j * kWidth);
    multiply_add<rows>(x + rows, w, sums);
  }
};

// k from a round of prefetches to the next, where codes are read.
constexpr int64_t kPrefetchedK = 256;

// Of `count`, the most in one of as many equal shares. Divided in 32 bits, which takes half as long in every call.
inline int share_of(int count, int64_t shares) {
  const int divisor = static_cast<int>(shares);
  return divisor > 0 ? (count + divisor - 1) / divisor : 0;
}

// The prefetches of a call, spread over its rounds.
class PacedPrefetches {
 public:
  explicit PacedPrefetches(const TileArguments& t) : PacedPrefetches(t, (t.k + kPrefetchedK - 1) / kPrefetchedK) {}
  PacedPrefetches(const TileArguments& t, int64_t rounds)
      : next_(t.prefetch.line(t.prefetch.begin)),
        stream_bytes_(t.prefetch.stream_bytes),
        lines_(share_of(t.prefetch.count, rounds)),
        streams_(1 << t.prefetch.stream_bits),
        streams_left_(streams_ - (t.prefetch.begin & (streams_ - 1))) {}
  void round() {
    for (int line = 0; line < lines_; ++line) {
      __builtin_prefetch(next_, 0, 2);
      next_ += stream_bytes_;
      if (--streams_left_ > 0) continue;
      streams_left_ = streams_;
      next_ += 64 - streams_ * stream_bytes_;
    }
  }
  // Before each unit of k.
  void unit() {
    if (--units_left_ >= 0) return;
    round();
    units_left_ = kPrefetchedK / kUnit - 1;
  }

 private:
  const char* next_;
  const int64_t stream_bytes_;
  const int lines_, streams_;
  int streams_left_;
  int64_t units_left_ = 0;
};

// With several panels, c is [panel][row][column]. See WideTile.
template <class Step, int rows, int panels>
void tile(const TileArguments& t) {
  // Steps per round of prefetches.
  constexpr int kUnroll = Step::step < 8 ? 4 : 1;
  const auto* value = static_cast<const typename Step::Value*>(t.x);
  const char* weight = t.w;
  const int64_t stride = t.c_stride == 0 ? kPanelColumns : t.c_stride;
  Sums<rows> sums[panels];
#pragma GCC unroll 4
  for (int p = 0; p < panels; ++p) {
#pragma GCC unroll 16
    for (int r = 0; r < rows; ++r) {
#pragma GCC unroll 2
      for (int j = 0; j < kPanelVectors; ++j) {
        sums[p][r][j] = t.accumulate ? Vector::load(t.c + (p * rows + r) * stride + j * kWidth) : Vector::zero();
      }
    }
  }
  const auto multiply = [&] {
    if (panels == 1 && t.past_caches > 0) {
#pragma GCC unroll 4
      for (int byte = 0; byte < Step::bytes; byte += 64) __builtin_prefetch(weight + t.past_caches + byte, 0, 0);
    }
#pragma GCC unroll 4
    for (int p = 0; p < panels; ++p) Step::template multiply<rows>(value, weight + p * t.panel_bytes, sums[p]);
    value += Step::step * rows;
    weight += Step::bytes;
  };
  const int64_t steps = t.k / Step::step;
  const int64_t rounds = steps / kUnroll;
  PacedPrefetches prefetches(t, rounds);
  for (int64_t round = 0; round < rounds; ++round) {
    // Several panels are as many streams already, and more prefetches would only get in their way.
    if constexpr (panels == 1) prefetches.round();
#pragma GCC unroll 4
    for (int u = 0; u < kUnroll; ++u) multiply();
  }
  for (int64_t i = rounds * kUnroll; i < steps; ++i) multiply();
#pragma GCC unroll 4
  for (int p = 0; p < panels; ++p) {
#pragma GCC unroll 16
    for (int r = 0; r < rows; ++r) {
#pragma GCC unroll 2
      for (int j = 0; j < kPanelVectors; ++j) sums[p][r][j].store(t.c + (p * rows + r) * stride + j * kWidth);
    }
  }
}

template <class Step, int... row>
constexpr TileFunctions tiles_of(std::integer_sequence<int, row...>) {
  return {nullptr, &tile<Step, row + 1, 1>...};
}

// Panels that a tile of this height takes at once: as many as leave most of its sums in registers.
constexpr int panels_at_once(int rows) {
  if ((kWidth < 8 && !kHasTallTiles) || rows < 1 || rows > 3) return 1;
  return rows < 3 || kHasTallTiles ? 4 : 2;
}

template <class Step, int rows, int panels = panels_at_once(rows)>
constexpr WideTile wide_tile() {
  if constexpr (panels > 1) return {&tile<Step, rows, panels>, panels};
  return {};
}
template <class Step, int... rows>
constexpr WideTiles wide_tiles_of(std::integer_sequence<int, rows...>) {
  return {wide_tile<Step, rows>()...};
}

// Indexed by row count, up to kTileRows.
template <class Step>
constexpr TileFunctions tiles() {
  return tiles_of<Step>(std::make_integer_sequence<int, kTileRows>());
}
template <class Step>
constexpr WideTiles wide_tiles() {
  return wide_tiles_of<Step>(std::make_integer_sequence<int, kTileRows + 1>());
}
