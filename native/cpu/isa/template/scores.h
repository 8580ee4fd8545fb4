// Scores of router logits. See kernels.h here. They are 0 for NaN, for which min() and max() give their second operand.

// e^x of x <= 0; 0 below kLeastExponent.
struct Exponential {
  static Vector apply(Vector x) {
    const Vector least = Vector::broadcast(kLeastExponent);
    const Vector clamped = Vector::max(x, least);
    return Vector::select_negative(least - clamped, exp_in_range(clamped), Vector::zero());
  }
};

struct Sigmoid {
  static Vector apply(Vector x) {
    x = Vector::max(x, Vector::broadcast(-INFINITY));
    const Vector e = Exponential::apply(Vector::zero() - x.abs());
    const Vector one = Vector::broadcast(1.0f);
    return Vector::select_negative(x, e, one) / (one + e);
  }
};

// The logit, an infinite one as the largest float32.
struct Finite {
  static Vector apply(Vector x) {
    const Vector largest = Vector::broadcast(FLT_MAX);
    const Vector positive = Vector::min(Vector::max(x, Vector::zero()), largest);
    return positive + Vector::max(Vector::min(x, Vector::zero()), Vector::zero() - largest);
  }
};

struct SqrtSoftplus {
  // ln(1 + e^x) = max(x, 0) + ln(1 + u), u = e^-|x|, and ln(1 + u) = 2 artanh(u / (2 + u)).
  static Vector apply(Vector x) {
    x = Vector::min(Vector::max(x, Vector::broadcast(-FLT_MAX)), Vector::broadcast(FLT_MAX));
    const Vector u = Exponential::apply(Vector::zero() - x.abs());
    const Vector s = u / (Vector::broadcast(2.0f) + u), squared = s * s;
    Vector series = Vector::broadcast(1.0f / 15);
    for (int n = 13; n > 0; n -= 2) {
      series = Vector::fma(series, squared, Vector::broadcast(1.0f / static_cast<float>(n)));
    }
    return (Vector::max(x, Vector::zero()) + Vector::broadcast(2.0f) * s * series).sqrt();
  }
};

// In place.
template <class Score>
inline void map_scores(float* values, int32_t count) {
  int32_t i = 0;
  for (; i + kWidth <= count; i += kWidth) Score::apply(Vector::load(values + i)).store(values + i);
  if (i == count) return;
  alignas(64) float buffer[kWidth];
  std::fill(std::copy(values + i, values + count, buffer), buffer + kWidth, 0.0f);
  Score::apply(Vector::load(buffer)).store(buffer);
  std::copy(buffer, buffer + (count - i), values + i);
}

// From logits, or for a softmax from shifted logits, to scores before any division by a sum.
inline void score(Scoring scoring, float* values, int32_t count) {
  switch (scoring) {
    case Scoring::softmax:
    case Scoring::softmax_selected: return map_scores<Exponential>(values, count);
    case Scoring::sigmoid: return map_scores<Sigmoid>(values, count);
    case Scoring::sqrt_softplus: return map_scores<SqrtSoftplus>(values, count);
    default: return map_scores<Finite>(values, count);
  }
}

// logit - top, of a softmax whose largest logit is top: where that is +infinity nothing else has a share, and where it
// is -infinity nothing has.
inline float shifted(float logit, float top) {
  if (top == -INFINITY) return -INFINITY;
  return logit == top ? 0.0f : logit - top;
}

// The sum over a row of e^(logit - top).
inline float sum_of_exponentials(const float* logits, int32_t count, float top) {
  if (!(top < INFINITY)) return static_cast<float>(std::count(logits, logits + count, top));
  // NaN and -infinity have no share: e^kLeastExponent is lost beside the top's 1.
  const Vector least = Vector::broadcast(kLeastExponent), shift = Vector::broadcast(top);
  Vector lanes = Vector::zero();
  int32_t i = 0;
  for (; i + kWidth <= count; i += kWidth) {
    lanes = lanes + exp_in_range(Vector::max(Vector::load(logits + i) - shift, least));
  }
  alignas(64) float buffer[kWidth];
  if (i < count) {
    std::fill(std::copy(logits + i, logits + count, buffer), buffer + kWidth, -INFINITY);
    lanes = lanes + exp_in_range(Vector::max(Vector::load(buffer) - shift, least));
  }
  lanes.store(buffer);
  float sum = 0;
  for (const float lane : buffer) sum += lane;
  return sum;
}

inline float sum_of(const float* values, int32_t count) {
  double sum = 0;
  for (int32_t i = 0; i < count; ++i) sum += static_cast<double>(values[i]);
  return static_cast<float>(sum);
}

// NaN counts as -infinity.
inline float largest_of(const float* values, int32_t count) {
  float largest = -INFINITY;
  for (int32_t i = 0; i < count; ++i) largest = values[i] > largest ? values[i] : largest;
  return largest;
}
