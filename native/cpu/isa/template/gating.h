// Gating: selection and weights. See kernels.h here.

inline bool any_finite(const float* logits, int32_t experts) {
  for (int32_t e = 0; e < experts; ++e) {
    if (std::fabs(logits[e]) < INFINITY) return true;
  }
  return false;
}

// Weights of experts that are chosen or given; see score_choices().
template <bool kChosen>
[[gnu::always_inline]] inline int32_t weigh_choices(const float* logits, int32_t tokens, int32_t experts,
                                                    const GatingRule& rule, bool by_logit, const int32_t* ids,
                                                    float* weights, const GateScratch& scratch) {
  if (rule.scoring == Scoring::sparsemixer) {
    for (int32_t t = 0; t < tokens; ++t) {
      score_sparsemixer(logits + int64_t{t} * experts, experts, rule, by_logit, ids + t * rule.top_k,
                        scratch.weights + t, scratch.keys);
    }
  } else {
    score_choices<kChosen>(logits, tokens, experts, rule, by_logit, ids, scratch.weights);
  }
  normalize(rule, tokens, scratch.weights);
  int32_t not_finite = 0;
  for (int32_t t = 0; t < tokens; ++t) {
    const float* row = logits + int64_t{t} * experts;
    const int32_t first = ids[t * rule.top_k];
    const bool weighed = (is_expert(first, experts) && std::fabs(row[first]) < INFINITY) || any_finite(row, experts);
    not_finite += weighed ? 0 : 1;
    for (int32_t j = 0; j < rule.top_k; ++j) *weights++ = weighed ? scratch.weights[j * kGateTokens + t] : 0.0f;
  }
  return not_finite;
}

int32_t gate(const float* logits, int32_t tokens, int32_t experts, const GatingRule& rule, const float* selection_bias,
             int32_t* ids, float* weights, int32_t* base) {
  const GateScratch scratch(base, experts);
  choose_experts(logits, tokens, experts, rule, selection_bias, ids, scratch);
  return weigh_choices<true>(logits, tokens, experts, rule, chooses_by_logit(rule, selection_bias), ids, weights,
                             scratch);
}

int32_t weigh(const float* logits, int32_t tokens, int32_t experts, const GatingRule& rule, const int32_t* ids,
              float* weights, int32_t* base) {
  return weigh_choices<false>(logits, tokens, experts, rule, false, ids, weights, GateScratch(base, experts));
}
