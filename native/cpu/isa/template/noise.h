// Noisy logits and the expected load of the experts. See kernels.h here.

void add_noise(const float* clean, const float* spread, const float* noise, float epsilon, int64_t count, float* logits,
               float* deviation) {
  const Vector least = Vector::broadcast(epsilon);
  for_each_vector(spread, count, 0.0f, [&](Vector value, int64_t first, int64_t lanes) {
    (Softplus::apply(value) + least).store_first(deviation + first, lanes);
  });
  for (int64_t i = 0; i < count; ++i) logits[i] = clean[i] + noise[i] * deviation[i];
}

// erfc(a) = e^(-a^2) t p(t) with a = |x| and t = 3 / (3 + a); for x < 0 the result is 2 minus that. p is fitted to
// within 2e-8.
struct Erfc {
  static Vector apply(Vector x) {
    constexpr float kTerms[] = {0.0562047176f,   -0.294715106f, 0.541599333f, -0.448828906f, 0.409768134f,
                                -0.00525152497f, 0.193298757f,  0.171172902f, 0.188717648f,  0.188034043f};
    const Vector a = Vector::min(x.abs(), Vector::broadcast(10.0f)), three = Vector::broadcast(3.0f),
                 t = three / (three + a);
    Vector p = Vector::zero();
    for (const float term : kTerms) p = Vector::fma(p, t, Vector::broadcast(term));
    // Where a * a is large, its rounding error matters.
    const Vector square = a * a, rest = Vector::fma(a, a, Vector::zero() - square);
    const Vector result = Exponential::apply(Vector::zero() - square) * t * p * (Vector::broadcast(1.0f) - rest);
    return Vector::select_negative(x, Vector::broadcast(2.0f) - result, result);
  }
};

// What a logit must exceed to be among the top_k of its row.
inline LoadThresholds thresholds_of(const float* noisy, int32_t count, int32_t top_k, int32_t* scratch) {
  const int32_t wanted = std::min(top_k + 1, count);
  choose(noisy, 1, count, wanted, scratch, reinterpret_cast<int64_t*>(scratch + whole_lines(count)));
  return {ordered_logit(noisy[scratch[top_k - 1]]), top_k < count ? ordered_logit(noisy[scratch[top_k]]) : -INFINITY};
}

void add_load(const float* clean, const float* noisy, const float* deviation, int32_t count, int32_t top_k,
              double* sums, int32_t* scratch) {
  constexpr int32_t kAtOnce = 64;
  const auto [last, next] = thresholds_of(noisy, count, top_k, scratch);
  alignas(64) float z[kAtOnce] = {}, doubled[kAtOnce];
  for (int32_t first = 0; first < count; first += kAtOnce) {
    const int32_t end = std::min(kAtOnce, count - first);
    for (int32_t i = 0; i < end; ++i) {
      const float threshold = noisy[first + i] > next ? next : last;
      z[i] = (clean[first + i] - threshold) / deviation[first + i] * -0.70710678118654752f;
    }
    for (int32_t i = 0; i < end; i += kWidth) Erfc::apply(Vector::load(z + i)).store(doubled + i);
    for (int32_t i = 0; i < end; ++i) sums[first + i] += z[i] == z[i] ? 0.5 * static_cast<double>(doubled[i]) : 0.0;
  }
}
