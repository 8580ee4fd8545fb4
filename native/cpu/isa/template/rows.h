// Walking a row of values. See kernels.h here.

// Calls function(vector, first, count) for the vectors of values 0 .. count - 1; lanes beyond the end hold `fill`.
template <class Function>
inline void for_each_vector(const float* values, int64_t count, float fill, Function&& function) {
  int64_t i = 0;
  for (; i + kWidth <= count; i += kWidth) function(Vector::load(values + i), i, int64_t{kWidth});
  if (i == count) return;
  alignas(64) float buffer[kWidth];
  std::fill(std::copy(values + i, values + count, buffer), buffer + kWidth, fill);
  function(Vector::load(buffer), i, count - i);
}

// Stores the first `count` lanes.
inline void store_lanes(Vector vector, float* target, int64_t count) {
  if (count == kWidth) return vector.store(target);
  alignas(64) float buffer[kWidth];
  vector.store(buffer);
  std::copy(buffer, buffer + count, target);
}

// Sums that stay precise in long rows: lanes take few values before they are added up in double.
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
inline float top_of(const float* values, int64_t count) {
  Vector lanes = Vector::broadcast(-INFINITY);
  for_each_vector(values, count, -INFINITY, [&](Vector value, int64_t, int64_t) { lanes = Vector::max(value, lanes); });
  alignas(64) float buffer[kWidth];
  lanes.store(buffer);
  return *std::max_element(buffer, buffer + kWidth);
}

inline void divide_row(float* values, int64_t count, float divisor) {
  const Vector all = Vector::broadcast(divisor);
  for_each_vector(values, count, 0.0f,
                  [&](Vector value, int64_t first, int64_t lanes) { store_lanes(value / all, values + first, lanes); });
}
