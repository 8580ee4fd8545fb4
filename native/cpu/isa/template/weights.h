// Weights of the chosen experts, [top_k, kGateTokens]. Tokens are interleaved because all go through the same steps.
// See kernels.h here.

inline bool is_expert(int32_t id, int32_t experts) {
  return static_cast<uint32_t>(id) < static_cast<uint32_t>(experts);
}

// The shift of each token's softmax: the largest of the chosen logits, or of all. NaN counts as -infinity.
inline void find_tops(const float* logits, int32_t tokens, int32_t experts, const GatingRule& rule, bool by_logit,
                      const float* weights, float* tops) {
  if (by_logit) {
    for (int t = 0; t < kGateTokens; ++t) tops[t] = weights[t];
  } else if (rule.scoring == Scoring::softmax) {
    for (int32_t t = 0; t < tokens; ++t) tops[t] = largest_of(logits + int64_t{t} * experts, experts);
  } else {
    std::fill_n(tops, kGateTokens, -INFINITY);
    for (int32_t j = 0; j < rule.top_k; ++j, weights += kGateTokens) {
      for (int t = 0; t < kGateTokens; ++t) tops[t] = weights[t] > tops[t] ? weights[t] : tops[t];
    }
  }
}

inline void add_up(const float* weights, int32_t count, float* sums) {
  double exact[kGateTokens] = {};
  for (int32_t j = 0; j < count; ++j, weights += kGateTokens) {
    for (int t = 0; t < kGateTokens; ++t) exact[t] += static_cast<double>(weights[t]);
  }
  for (int t = 0; t < kGateTokens; ++t) sums[t] = static_cast<float>(exact[t]);
}

// weights / divisors * scale; 0 where the divisor is 0.
inline void divide(float* weights, int32_t count, const float* divisors, float scale) {
  for (int32_t j = 0; j < count; ++j, weights += kGateTokens) {
    for (int t = 0; t < kGateTokens; ++t) {
      const float share = weights[t] / divisors[t] * scale;
      weights[t] = divisors[t] == 0 ? 0.0f : share;
    }
  }
}

// Scores of the chosen experts, before normalisation. `by_logit`: they were chosen by logit, best first, so the first
// has the row's largest logit. Others than those that `kChosen` by gating may be no experts: these have the score of
// NaN, 0.
template <bool kChosen>
[[gnu::always_inline]] inline void score_choices(const float* logits, int32_t tokens, int32_t experts,
                                                 const GatingRule& rule, bool by_logit, const int32_t* ids,
                                                 float* weights) {
  const int32_t count = rule.top_k;
  if (tokens < kGateTokens) std::fill_n(weights, count * kGateTokens, 0.0f);
  for (int32_t t = 0; t < tokens; ++t) {
    const float* row = logits + int64_t{t} * experts;
    for (int32_t j = 0; j < count; ++j, ++ids) {
      weights[j * kGateTokens + t] = kChosen || is_expert(*ids, experts) ? row[*ids] : NAN;
    }
  }
  const bool selected = rule.scoring == Scoring::softmax_selected;
  const bool softmax = selected || rule.scoring == Scoring::softmax;
  float tops[kGateTokens] = {}, sums[kGateTokens] = {};
  if (softmax) {
    find_tops(logits, tokens, experts, rule, by_logit, weights, tops);
    for (int32_t j = 0; j < count; ++j) {
      for (int t = 0; t < kGateTokens; ++t)
        weights[j * kGateTokens + t] = shifted(weights[j * kGateTokens + t], tops[t]);
    }
  }
  score(rule.scoring, weights, count * kGateTokens);
  // The sum over all experts cancels out if the weights are divided by their own sum afterwards.
  if (!softmax || rule.normalization == Normalization::sum || rule.normalization == Normalization::lp) return;
  if (selected) add_up(weights, count, sums);
  for (int32_t t = 0; t < tokens && !selected; ++t) {
    sums[t] = sum_of_exponentials(logits + int64_t{t} * experts, experts, tops[t]);
  }
  divide(weights, count, sums, 1.0f);
}

// The terms of SparseMixer's softmax, of logits up to `top`: it runs over those for which top - logit is at most
// 2 * jitter * max(|logit|, top).
inline Vector near_terms(Vector logit, float top, float jitter) {
  const Vector none = Vector::broadcast(-INFINITY), best = Vector::broadcast(top);
  logit = Vector::max(logit, none);
  const Vector reach = Vector::broadcast(2.0f * jitter) * Vector::max(logit.abs(), best);
  return Vector::select_negative(reach - (best - logit), Vector::zero(), Exponential::apply(logit - best));
}

// The share of a logit in SparseMixer's softmax over those that are left. `top` is the largest of these.
inline float near_share(const float* left, int32_t experts, float top, float jitter, float logit) {
  if (!(std::fabs(top) < INFINITY)) {
    return top > 0 && logit == top ? 1.0f / static_cast<float>(std::count(left, left + experts, top)) : 0.0f;
  }
  top += 0.0f;  // -0 becomes 0, so that no reach is -0
  const Vector none = Vector::broadcast(-INFINITY);
  Vector sum = Vector::zero();
  for (int32_t i = 0; i < experts; i += kWidth) {
    sum = sum + near_terms(Vector::load_first(left + i, experts - i, none), top, jitter);
  }
  alignas(64) float own[kWidth] = {1.0f};
  if (logit != top) near_terms(Vector::broadcast(logit), top, jitter).store(own);
  return own[0] / sum.sum();
}

// SparseMixer's scores of one token. Each choice takes its expert from those that are left. `left` has room for a row.
inline void score_sparsemixer(const float* logits, int32_t experts, const GatingRule& rule, bool by_logit,
                              const int32_t* ids, float* weights, float* left) {
  std::copy(logits, logits + experts, left);
  for (int32_t j = 0; j < rule.top_k; ++j, weights += kGateTokens) {
    *weights = 0.0f;
    if (!is_expert(ids[j], experts)) continue;
    float& logit = left[ids[j]];
    *weights = near_share(left, experts, by_logit ? logit : largest_of(left, experts), rule.jitter, logit);
    logit = -INFINITY;
  }
}

// The L^p norm relative to the largest weight, so that nothing overflows. Leaves the weights divided by the largest.
inline float relative_norm(float* weights, int32_t count, float power) {
  const int32_t end = count * kGateTokens;
  float largest = 0, sum = 0;
  for (int32_t i = 0; i < end; i += kGateTokens) largest = std::max(largest, std::fabs(weights[i]));
  if (largest == 0) return 0;
  for (int32_t i = 0; i < end; i += kGateTokens) {
    weights[i] /= largest;
    sum += std::pow(std::fabs(weights[i]), power);
  }
  return std::pow(sum, 1.0f / power);
}

// Normalises the weights by the rule, and scales them.
[[gnu::always_inline]] inline void normalize(const GatingRule& rule, int32_t tokens, float* weights) {
  if (rule.normalization == Normalization::none && rule.scale == 1) return;
  float divisors[kGateTokens];
  switch (rule.normalization) {
    case Normalization::none: std::fill_n(divisors, kGateTokens, 1.0f); break;
    case Normalization::lp:
      std::fill_n(divisors, kGateTokens, 0.0f);
      for (int32_t t = 0; t < tokens; ++t) divisors[t] = relative_norm(weights + t, rule.top_k, rule.power);
      break;
    default: add_up(weights, rule.top_k, divisors);
  }
  for (float& divisor : divisors) {
    if (rule.normalization == Normalization::sum_plus_epsilon) divisor += rule.epsilon;
    if (rule.normalization == Normalization::clamped_sum) divisor = std::max(divisor, rule.epsilon);
  }
  divide(weights, rule.top_k, divisors, rule.scale);
}
