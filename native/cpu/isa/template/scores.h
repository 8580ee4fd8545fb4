// Scores of router logits. See kernels.h here.

// e^x, 0 below the smallest normal number.
inline Vector exp_or_zero(Vector x) {
  return Vector::select_negative(x + Vector::broadcast(87.3f), Vector::zero(), exp(x));
}

// Scores are 0 for NaN, for which min() and max() give their second operand.

// e^(x - top) of a finite top.
struct Exponential {
  Vector top;
  Vector apply(Vector x) const { return exp_or_zero(Vector::max(x, Vector::broadcast(-INFINITY)) - top); }
};

struct Sigmoid {
  Vector apply(Vector x) const {
    x = Vector::max(x, Vector::broadcast(-INFINITY));
    const Vector e = exp_or_zero(Vector::zero() - x.abs());
    const Vector one = Vector::broadcast(1.0f);
    return Vector::select_negative(x, e, one) / (one + e);
  }
};

// The logit, an infinite one as the largest float32.
struct Finite {
  Vector apply(Vector x) const {
    const Vector largest = Vector::broadcast(FLT_MAX);
    const Vector positive = Vector::min(Vector::max(x, Vector::zero()), largest);
    return positive + Vector::max(Vector::min(x, Vector::zero()), Vector::zero() - largest);
  }
};

struct SqrtSoftplus {
  // ln(1 + e^x) = max(x, 0) + ln(1 + u), u = e^-|x|, and ln(1 + u) = 2 artanh(u / (2 + u)).
  Vector apply(Vector x) const {
    x = Vector::min(Vector::max(x, Vector::broadcast(-FLT_MAX)), Vector::broadcast(FLT_MAX));
    const Vector u = exp_or_zero(Vector::zero() - x.abs());
    const Vector s = u / (Vector::broadcast(2.0f) + u), squared = s * s;
    Vector series = Vector::broadcast(1.0f / 15);
    for (int n = 13; n > 0; n -= 2) {
      series = Vector::fma(series, squared, Vector::broadcast(1.0f / static_cast<float>(n)));
    }
    return (Vector::max(x, Vector::zero()) + Vector::broadcast(2.0f) * s * series).sqrt();
  }
};

template <class Score>
inline void map_scores(const Score& score, const float* logits, int32_t count, float* scores) {
  int32_t i = 0;
  for (; i + kWidth <= count; i += kWidth) score.apply(Vector::load(logits + i)).store(scores + i);
  if (i == count) return;
  alignas(64) float buffer[kWidth];
  std::fill(std::copy(logits + i, logits + count, buffer), buffer + kWidth, 0.0f);
  score.apply(Vector::load(buffer)).store(buffer);
  std::copy(buffer, buffer + (count - i), scores + i);
}

// Scores of `count` logits, in place or not. By softmax e^(logit - top), where an infinite top has 1 and leaves the
// others nothing.
inline void score(Scoring scoring, float top, const float* logits, int32_t count, float* scores) {
  switch (scoring) {
    case Scoring::sigmoid: return map_scores(Sigmoid{}, logits, count, scores);
    case Scoring::sqrt_softplus: return map_scores(SqrtSoftplus{}, logits, count, scores);
    case Scoring::softmax:
    case Scoring::softmax_selected:
      if (std::fabs(top) < INFINITY) return map_scores(Exponential{Vector::broadcast(top)}, logits, count, scores);
      for (int32_t i = 0; i < count; ++i) scores[i] = top > 0 && logits[i] == top ? 1.0f : 0.0f;
      return;
    default: return map_scores(Finite{}, logits, count, scores);
  }
}

// The sum over a row of e^(logit - top) where no logit is above the top. NaN and -infinity count as the lowest number,
// whose share is none.
inline float sum_of_exponentials(const float* logits, int32_t count, float top) {
  if (!(top < INFINITY)) return static_cast<float>(std::count(logits, logits + count, top));
  const Vector lowest = Vector::broadcast(-FLT_MAX), shift = Vector::broadcast(top);
  Vector lanes = Vector::zero();
  int32_t i = 0;
  for (; i + kWidth <= count; i += kWidth) lanes = lanes + exp(Vector::max(Vector::load(logits + i), lowest) - shift);
  alignas(64) float buffer[kWidth];
  if (i < count) {
    std::fill(std::copy(logits + i, logits + count, buffer), buffer + kWidth, -INFINITY);
    lanes = lanes + exp(Vector::max(Vector::load(buffer), lowest) - shift);
  }
  lanes.store(buffer);
  float sum = 0;
  for (const float lane : buffer) sum += lane;
  return sum;
}

inline float largest_of(const float* values, int32_t count) {
  float largest = -INFINITY;
  for (int32_t i = 0; i < count; ++i) largest = values[i] > largest ? values[i] : largest;
  return largest;
}

inline float sum_of(const float* values, int32_t count) {
  float sum = 0;
  for (int32_t i = 0; i < count; ++i) sum += values[i];
  return sum;
}
