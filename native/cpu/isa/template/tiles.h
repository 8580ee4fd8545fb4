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

// How one k group of a weight dtype is multiplied: `Value` of x by `Weight` as stored, `group` consecutive k at a time.
template <class Stored>
struct PlainWeight {
  using Weight = Stored;
  using Value = float;
  static constexpr int group = 1;

  template <int rows>
  static void step(const Value* x, const Weight* weight, Sums<rows>& sums) {
    const Vector w[kPanelVectors] = {Vector::load(weight), Vector::load(weight + kWidth)};
    multiply_add<rows>(x, w, sums);
  }
};

struct PairedWeight {
  using Weight = bf16;
  using Value = float;
  static constexpr int group = 2;

  template <int rows>
  static void step(const Value* x, const Weight* weight, Sums<rows>& sums) {
    Vector even[kPanelVectors], odd[kPanelVectors];
#pragma GCC unroll 2
    for (int j = 0; j < kPanelVectors; ++j) Vector::load_pairs(weight + 2 * j * kWidth, even[j], odd[j]);
    multiply_add<rows>(x, even, sums);
    multiply_add<rows>(x + rows, odd, sums);
  }
};

template <class Step, int rows>
void tile(int64_t k, const void* x, const void* w, float* c, bool accumulate, const char* prefetch,
          int64_t prefetch_lines) {
  // k groups per round of prefetches.
  constexpr int kUnroll = 4;
  const auto* value = static_cast<const typename Step::Value*>(x);
  const auto* weight = static_cast<const typename Step::Weight*>(w);
  Sums<rows> sums;
#pragma GCC unroll 16
  for (int r = 0; r < rows; ++r) {
#pragma GCC unroll 2
    for (int j = 0; j < kPanelVectors; ++j) {
      sums[r][j] = accumulate ? Vector::load(c + r * kPanelColumns + j * kWidth) : Vector::zero();
    }
  }
  const int64_t groups = k / Step::group;
  const int64_t rounds = groups / kUnroll;
  const int64_t lines_per_round = rounds > 0 ? (prefetch_lines + rounds - 1) / rounds : 0;
  for (int64_t round = 0; round < rounds; ++round) {
    for (int64_t line = 0; line < lines_per_round; ++line, prefetch += 64) __builtin_prefetch(prefetch, 0, 2);
#pragma GCC unroll 4
    for (int u = 0; u < kUnroll; ++u) {
      Step::template step<rows>(value, weight, sums);
      value += Step::group * rows;
      weight += Step::group * kPanelColumns;
    }
  }
  for (int64_t group = rounds * kUnroll; group < groups; ++group) {
    Step::template step<rows>(value, weight, sums);
    value += Step::group * rows;
    weight += Step::group * kPanelColumns;
  }
#pragma GCC unroll 16
  for (int r = 0; r < rows; ++r) {
#pragma GCC unroll 2
    for (int j = 0; j < kPanelVectors; ++j) sums[r][j].store(c + r * kPanelColumns + j * kWidth);
  }
}

template <class Step, int... row>
constexpr TileKernels tiles_of(Arithmetic arithmetic, std::integer_sequence<int, row...>) {
  return {arithmetic, static_cast<int>(sizeof...(row)), {nullptr, &tile<Step, row + 1>...}};
}

template <class Step>
constexpr TileKernels tiles(Arithmetic arithmetic) {
  return tiles_of<Step>(arithmetic, std::make_integer_sequence<int, kTileRows>());
}
