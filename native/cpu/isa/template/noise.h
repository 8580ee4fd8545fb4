// Noisy logits. See kernels.h here.

// ln(1 + e^x) = max(x, 0) + ln(1 + u), u = e^-|x|, and ln(1 + u) = 2 artanh(u / (2 + u)). NaN stays NaN.
struct Softplus {
  static Vector apply(Vector x) {
    const Vector u = Exponential::apply(Vector::zero() - x.abs());
    const Vector s = u / (Vector::broadcast(2.0f) + u), squared = s * s;
    Vector series = Vector::broadcast(1.0f / 15);
    for (int n = 13; n > 0; n -= 2) {
      series = Vector::fma(series, squared, Vector::broadcast(1.0f / static_cast<float>(n)));
    }
    return Vector::max(Vector::zero(), x) + Vector::broadcast(2.0f) * s * series;
  }
};

void add_noise(const float* clean, const float* spread, const float* noise, float epsilon, int64_t count, float* logits,
               float* deviation) {
  const Vector least = Vector::broadcast(epsilon);
  for_each_vector(spread, count, 0.0f, [&](Vector value, int64_t first, int64_t lanes) {
    store_lanes(Softplus::apply(value) + least, deviation + first, lanes);
  });
  for (int64_t i = 0; i < count; ++i) logits[i] = clean[i] + noise[i] * deviation[i];
}
