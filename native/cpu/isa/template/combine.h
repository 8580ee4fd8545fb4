// The weighted sum of rows, and a row's product with another. See kernels.h here.

template <class T>
inline void combine_rows(const void* const* rows, const float* weights, int32_t top_k, int64_t count, float* y) {
  int64_t i = 0;
  for (; i + kWidth <= count; i += kWidth) {
    Vector sum = Vector::zero();
    for (int32_t j = 0; j < top_k; ++j) {
      if (rows[j] == nullptr) continue;
      sum = Vector::fma(Vector::broadcast(weights[j]), Vector::load(static_cast<const T*>(rows[j]) + i), sum);
    }
    sum.store(y + i);
  }
  for (; i < count; ++i) {
    float sum = 0;
    for (int32_t j = 0; j < top_k; ++j) {
      if (rows[j] != nullptr) sum += weights[j] * static_cast<float>(static_cast<const T*>(rows[j])[i]);
    }
    y[i] = sum;
  }
}

void combine(DType dtype, const void* const* rows, const float* weights, int32_t top_k, int64_t count, float* y) {
  switch (dtype) {
    case DType::f16: return combine_rows<f16>(rows, weights, top_k, count, y);
    case DType::bf16: return combine_rows<bf16>(rows, weights, top_k, count, y);
    default: return combine_rows<float>(rows, weights, top_k, count, y);
  }
}

float dot(const float* a, const float* b, int64_t count) {
  // More than one sum, so that no multiply-add waits for the one before.
  constexpr int kSums = 4;
  Vector sums[kSums] = {Vector::zero(), Vector::zero(), Vector::zero(), Vector::zero()};
  int64_t i = 0;
  for (; i + kSums * kWidth <= count; i += kSums * kWidth) {
    for (int j = 0; j < kSums; ++j) {
      sums[j] = Vector::fma(Vector::load(a + i + j * kWidth), Vector::load(b + i + j * kWidth), sums[j]);
    }
  }
  for (; i < count; i += kWidth) {
    const Vector left = Vector::load_first(a + i, count - i, Vector::zero());
    sums[0] = Vector::fma(left, Vector::load_first(b + i, count - i, Vector::zero()), sums[0]);
  }
  return ((sums[0] + sums[1]) + (sums[2] + sums[3])).sum();
}
