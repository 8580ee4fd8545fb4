// The softmax of one row. See kernels.h here.

void softmax(float* values, int64_t count) {
  alignas(64) float lanes[kWidth];
  float top = -INFINITY;
  Vector tops = Vector::broadcast(top);
  int64_t i = 0;
  // max() keeps its second argument where the first is NaN.
  for (; i + kWidth <= count; i += kWidth) tops = Vector::max(Vector::load(values + i), tops);
  tops.store(lanes);
  for (const float lane : lanes) top = std::max(top, lane);
  for (; i < count; ++i) top = values[i] > top ? values[i] : top;
  if (!(std::fabs(top) < INFINITY)) {
    const float share = top > 0 ? 1.0f / static_cast<float>(std::count(values, values + count, top)) : 0.0f;
    for (i = 0; i < count; ++i) values[i] = values[i] == top ? share : 0.0f;
    return;
  }
  // NaN and -infinity count as the lowest number, whose share is none.
  const Vector lowest = Vector::broadcast(-3.4e38f), shift = Vector::broadcast(top);
  const auto exponential = [&](Vector x) { return exp(Vector::max(x, lowest) - shift); };
  Vector sums = Vector::zero();
  for (i = 0; i + kWidth <= count; i += kWidth) {
    const Vector e = exponential(Vector::load(values + i));
    e.store(values + i);
    sums = sums + e;
  }
  if (i < count) {
    std::fill(std::copy(values + i, values + count, lanes), lanes + kWidth, -INFINITY);
    const Vector e = exponential(Vector::load(lanes));
    e.store(lanes);
    std::copy_n(lanes, count - i, values + i);
    sums = sums + e;
  }
  sums.store(lanes);
  float sum = 0;
  for (const float lane : lanes) sum += lane;
  const Vector scale = Vector::broadcast(1.0f / sum);
  for (i = 0; i + kWidth <= count; i += kWidth) (Vector::load(values + i) * scale).store(values + i);
  for (; i < count; ++i) values[i] *= 1.0f / sum;
}
