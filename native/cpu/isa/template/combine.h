// The weighted sum of rows. See kernels.h here.

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
