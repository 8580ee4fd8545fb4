// Tiles of matrix products. See kernels.h here.

template <int rows>
using Sums = Vector[rows][kPanelVectors];

template <int rows>
inline void multiply_add(const float* x, const Vector (&w)[kPanelVectors], Sums<rows>& sums) {
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
    const Stored* weight = reinterpret_cast<const Stored*>(panel);
    const Vector w[kPanelVectors] = {Vector::load(weight), Vector::load(weight + kWidth)};
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

// The prefetches of a call, spread over its rounds.
class PacedPrefetches {
 public:
  PacedPrefetches(const TileArguments& t, int64_t rounds)
      : next_(t.prefetch), lines_(rounds > 0 ? (t.prefetch_lines + rounds - 1) / rounds : 0) {}
  void round() {
    for (int64_t line = 0; line < lines_; ++line, next_ += 64) __builtin_prefetch(next_, 0, 2);
  }

 private:
  const char* next_;
  int64_t lines_;
};

template <class Step, int rows>
void tile(const TileArguments& t) {
  // Steps per round of prefetches.
  constexpr int kUnroll = Step::step < 8 ? 4 : 1;
  const auto* value = static_cast<const typename Step::Value*>(t.x);
  const char* weight = t.w;
  const int64_t stride = t.c_stride == 0 ? kPanelColumns : t.c_stride;
  Sums<rows> sums;
#pragma GCC unroll 16
  for (int r = 0; r < rows; ++r) {
#pragma GCC unroll 2
    for (int j = 0; j < kPanelVectors; ++j) {
      sums[r][j] = t.accumulate ? Vector::load(t.c + r * stride + j * kWidth) : Vector::zero();
    }
  }
  const int64_t steps = t.k / Step::step;
  const int64_t rounds = steps / kUnroll;
  PacedPrefetches prefetches(t, rounds);
  for (int64_t round = 0; round < rounds; ++round) {
    prefetches.round();
#pragma GCC unroll 4
    for (int u = 0; u < kUnroll; ++u) {
      Step::template multiply<rows>(value, weight, sums);
      value += Step::step * rows;
      weight += Step::bytes;
    }
  }
  for (int64_t i = rounds * kUnroll; i < steps; ++i) {
    Step::template multiply<rows>(value, weight, sums);
    value += Step::step * rows;
    weight += Step::bytes;
  }
#pragma GCC unroll 16
  for (int r = 0; r < rows; ++r) {
#pragma GCC unroll 2
    for (int j = 0; j < kPanelVectors; ++j) sums[r][j].store(t.c + r * stride + j * kWidth);
  }
}

template <class Step, int... row>
constexpr std::array<TileFunction, kMaxTileRows + 1> tiles_of(std::integer_sequence<int, row...>) {
  return {nullptr, &tile<Step, row + 1>...};
}

// Indexed by row count, up to kTileRows.
template <class Step>
constexpr std::array<TileFunction, kMaxTileRows + 1> tiles() {
  return tiles_of<Step>(std::make_integer_sequence<int, kTileRows>());
}
