// Iterating over a row of values. See kernels.h here.

// Calls function(vector, first, count) for the vectors that cover values 0 .. count - 1; lanes past the end hold
// `fill`.
template <class Function>
inline void for_each_vector(const float* values, int64_t count, float fill, Function&& function) {
  const Vector rest = Vector::broadcast(fill);
  for (int64_t i = 0; i < count; i += kWidth) {
    function(Vector::load_first(values + i, count - i, rest), i, std::min(int64_t{kWidth}, count - i));
  }
}

// Sums that stay precise in long rows: each lane adds only a few values before the lanes are summed in double.
class LaneSum {
 public:
  void add(Vector values) {
    lanes_ = lanes_ + values;
    if (++added_ == kMostAdded) flush();
  }
  double total() {
    flush();
    return total_;
  }

 private:
  static constexpr int kMostAdded = 16;

  void flush() {
    alignas(64) float buffer[kWidth];
    lanes_.store(buffer);
    for (const float lane : buffer) total_ += static_cast<double>(lane);
    lanes_ = Vector::zero();
    added_ = 0;
  }

  Vector lanes_ = Vector::zero();
  double total_ = 0;
  int added_ = 0;
};

// NaN counts as -infinity.
inline float largest_of(const float* values, int64_t count) {
  Vector largest = Vector::broadcast(-INFINITY);
  for_each_vector(values, count, -INFINITY,
                  [&](Vector value, int64_t, int64_t) { largest = Vector::max(value, largest); });
  return largest.largest();
}

inline void divide_row(float* values, int64_t count, float divisor) {
  const Vector all = Vector::broadcast(divisor);
  for_each_vector(values, count, 0.0f, [&](Vector value, int64_t first, int64_t lanes) {
    (value / all).store_first(values + first, lanes);
  });
}
