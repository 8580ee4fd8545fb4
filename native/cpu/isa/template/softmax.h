// The softmax of one row. See kernels.h here.

void softmax(float* values, int32_t count) {
  const float top = largest_of(values, count);
  if (top == -INFINITY) {
    std::fill_n(values, count, 0.0f);
    return;
  }
  const float factor = 1.0f / sum_of_exponentials(values, count, top);
  for (int32_t i = 0; i < count; ++i) values[i] = shifted(values[i], top);
  map_scores<Exponential>(values, count);
  for (int32_t i = 0; i < count; ++i) values[i] *= factor;
}
