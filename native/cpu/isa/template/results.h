// The results of some rows of a tile, which are added to run after run. See kernels.h here.

// As many as stay in registers beside the sums that are in the making: with 32 registers, two for columns and one for x
// are left.
constexpr int kMostHeldRows = kHasTallTiles ? 7 : 1;

template <int rows>
inline void load_results(const TileArguments& t, const float* c, Sums<rows>& results) {
#pragma GCC unroll 8
  for (int r = 0; r < rows; ++r) {
#pragma GCC unroll 2
    for (int j = 0; j < kPanelVectors; ++j) {
      results[r][j] = t.accumulate ? Vector::load(c + r * kPanelColumns + j * kWidth) : Vector::zero();
    }
  }
}
template <int rows>
inline void store_results(const Sums<rows>& results, float* c) {
#pragma GCC unroll 8
  for (int r = 0; r < rows; ++r) {
#pragma GCC unroll 2
    for (int j = 0; j < kPanelVectors; ++j) results[r][j].store(c + r * kPanelColumns + j * kWidth);
  }
}

// In registers until finish().
template <int rows>
class HeldResults {
 public:
  HeldResults(const TileArguments& t, int first_row) : c_(t.c + first_row * kPanelColumns) {
    load_results<rows>(t, c_, values_);
  }
  Vector get(int row, int j) const { return values_[row][j]; }
  void set(int row, int j, Vector value) { values_[row][j] = value; }
  void finish() const { store_results<rows>(values_, c_); }

 private:
  float* c_;
  Sums<rows> values_;
};

// In c.
template <int rows>
class StoredResults {
 public:
  StoredResults(const TileArguments& t, int first_row) : c_(t.c + first_row * kPanelColumns) {
    if (!t.accumulate) std::fill_n(c_, rows * kPanelColumns, 0.0f);
  }
  Vector get(int row, int j) const { return Vector::load(c_ + row * kPanelColumns + j * kWidth); }
  void set(int row, int j, Vector value) { value.store(c_ + row * kPanelColumns + j * kWidth); }
  void finish() const {}

 private:
  float* c_;
};

template <int rows>
using Results = std::conditional_t<rows <= kMostHeldRows, HeldResults<rows>, StoredResults<rows>>;
