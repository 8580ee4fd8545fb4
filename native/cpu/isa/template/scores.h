// Scores of router logits. See kernels.h here. A NaN logit scores 0 unless noted otherwise: given NaN, min() and max()
// return their second operand.

// e^x for x <= 0; 0 below kLeastExponent.
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

// The logit; an infinite one counts as the largest float32.
struct Finite {
  static Vector apply(Vector x) {
    const Vector largest = Vector::broadcast(FLT_MAX);
    const Vector positive = Vector::min(Vector::max(x, Vector::zero()), largest);
    return positive + Vector::max(Vector::min(x, Vector::zero()), Vector::zero() - largest);
  }
};

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

// e^(x / 2) where ln(1 + e^x) is e^x, and soon less than float32 can hold.
struct SqrtSoftplus {
  static Vector apply(Vector x) {
    x = Vector::min(Vector::max(x, Vector::broadcast(-FLT_MAX)), Vector::broadcast(FLT_MAX));
    const Vector half = Vector::broadcast(0.5f) * Vector::min(x, Vector::zero());
    const Vector above = x - Vector::broadcast(kExponentialSoftplus);
    return Vector::select_negative(above, Exponential::apply(half), Softplus::apply(x).sqrt());
  }
};

// In place.
template <class Score>
inline void map_scores(float* values, int32_t count) {
  for (int32_t i = 0; i < count; i += kWidth) {
    const Vector value = Vector::load_first(values + i, count - i, Vector::zero());
    Score::apply(value).store_first(values + i, count - i);
  }
}

// Turns logits (for a softmax, after the shift) into scores, before any division by a sum.
inline void score(Scoring scoring, float* values, int32_t count) {
  switch (scoring) {
    case Scoring::softmax:
    case Scoring::softmax_selected: return map_scores<Exponential>(values, count);
    case Scoring::sigmoid: return map_scores<Sigmoid>(values, count);
    case Scoring::sqrt_softplus: return map_scores<SqrtSoftplus>(values, count);
    default: return map_scores<Finite>(values, count);
  }
}

// logit - top, for a softmax whose largest logit is top. If top is +infinity, no other logit has a share; if it is
// -infinity, none has.
inline float shifted(float logit, float top) {
  const float difference = logit == top ? 0.0f : logit - top;
  return top == -INFINITY ? -INFINITY : difference;
}

// e^x for x in kLeastExponent .. 0, for sums with a term e^0: the absolute error is below 2^-23. The polynomial is the
// minimax approximation of 2^r for |r| <= 1/2 that is exactly 1 at 0.
inline Vector exp_term(Vector x) {
  const Vector exponent = x * Vector::broadcast(1.44269504088896341f);
  const Vector n = exponent.round(), r = exponent - n;
  Vector p = Vector::broadcast(1.32647e-3f);
  p = Vector::fma(p, r, Vector::broadcast(9.67151e-3f));
  p = Vector::fma(p, r, Vector::broadcast(5.550734e-2f));
  p = Vector::fma(p, r, Vector::broadcast(2.4022242e-1f));
  p = Vector::fma(p, r, Vector::broadcast(6.9314698e-1f));
  return Vector::fma(p, r, Vector::broadcast(1.0f)).times_exp2(n);
}

// The sum over a row of e^(logit - top).
inline float sum_of_exponentials(const float* logits, int32_t count, float top) {
  if (!(top < INFINITY)) return static_cast<float>(std::count(logits, logits + count, top));
  // NaN and -infinity have no share: e^kLeastExponent vanishes beside the top's 1.
  const Vector none = Vector::broadcast(-INFINITY), least = Vector::broadcast(kLeastExponent);
  const Vector shift = Vector::broadcast(top);
  Vector lanes = Vector::zero();
  for (int32_t i = 0; i < count; i += kWidth) {
    const Vector logit = Vector::load_first(logits + i, count - i, none);
    lanes = lanes + exp_term(Vector::max(logit - shift, least));
  }
  return lanes.sum();
}
