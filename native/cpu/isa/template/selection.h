// The experts that a rule chooses. See kernels.h here.

// The parts of the scratch memory; see gate_scratch().
struct GateScratch {
  int64_t* ordered;   // [experts]
  float* keys;        // [kGateTokens, experts]
  float* candidates;  // keys of the chosen groups' experts, contiguous
  float* weights;     // [top_k, kGateTokens]; first used for the groups' scores
  int32_t* groups;    // [kGateTokens, top_groups]: the chosen groups, ascending

  GateScratch(int32_t* base, int64_t experts)
      : ordered(reinterpret_cast<int64_t*>(base)),
        keys(reinterpret_cast<float*>(base + 2 * whole_lines(experts))),
        candidates(keys + kGateTokens * whole_lines(experts)),
        weights(candidates + kGateTokens * whole_lines(experts)),
        groups(reinterpret_cast<int32_t*>(weights + kGateTokens * whole_lines(experts))) {}
};

// keys / sum + bias, NaN where the logit is NaN; the bias may be null.
inline void finish_keys(const float* logits, int32_t experts, float sum, const float* bias, float* keys) {
  const Vector zero = Vector::zero(), divisor = Vector::broadcast(sum);
  for (int32_t i = 0; i < experts; i += kWidth) {
    Vector key = Vector::load_first(keys + i, experts - i, zero);
    if (sum != 1) key = key / divisor;
    if (bias != nullptr) key = key + Vector::load_first(bias + i, experts - i, zero);
    Vector::select_nan(Vector::load_first(logits + i, experts - i, zero), key).store_first(keys + i, experts - i);
  }
}

// Whether experts are chosen by the logits themselves, so that the first choice has the row's largest logit.
inline bool chooses_by_logit(const GatingRule& rule, const float* selection_bias) {
  return selection_bias == nullptr && rule.num_groups == 1;
}

// Computes the keys to choose by, for rules that do not choose by the logits themselves.
inline void find_keys(const float* logits, int32_t experts, const GatingRule& rule, const float* selection_bias,
                      float* keys) {
  const bool by_score = rule.selection_key == SelectionKey::score;
  float sum = 1;
  if (by_score && rule.scoring == Scoring::softmax) {
    const float top = largest_of(logits, experts);
    for (int32_t e = 0; e < experts; ++e) keys[e] = shifted(logits[e], top);
    sum = std::max(sum_of_exponentials(logits, experts, top), 1.0f);
  } else {
    std::copy(logits, logits + experts, keys);
  }
  score(by_score ? rule.scoring : Scoring::none, keys, experts);
  finish_keys(logits, experts, sum, selection_bias, keys);
}

// The largest key or, with `both`, the sum of the two largest; NaN counts as -infinity.
inline float sum_of_two(const float* keys, int32_t count, bool both) {
  const Vector none = Vector::broadcast(-INFINITY);
  Vector first = none, second = none;
  for (int32_t i = 0; i < count; i += kWidth) {
    const Vector key = Vector::max(Vector::load_first(keys + i, count - i, none), none);
    second = Vector::max(second, Vector::min(first, key));
    first = Vector::max(first, key);
  }
  alignas(64) float lanes[2 * kWidth];
  first.store(lanes);
  second.store(lanes + kWidth);
  const float largest = *std::max_element(lanes, lanes + kWidth);
  if (!both) return largest;
  *std::find(lanes, lanes + kWidth, largest) = -INFINITY;
  return largest + *std::max_element(lanes, lanes + 2 * kWidth);
}

inline float group_score(const float* keys, int32_t size, const GatingRule& rule, const GateScratch& scratch) {
  const int32_t terms = rule.group_terms();
  if (terms <= 2) return sum_of_two(keys, size, terms == 2);
  int32_t* largest = scratch.groups;
  choose(keys, 1, size, terms, largest, scratch.ordered);
  float sum = 0;
  for (int32_t j = 0; j < terms; ++j) sum += keys[largest[j]] != keys[largest[j]] ? -INFINITY : keys[largest[j]];
  return sum;
}

// Chooses among the experts of the best groups.
inline void choose_in_groups(int32_t tokens, int32_t experts, const GatingRule& rule, int32_t* ids,
                             const GateScratch& scratch) {
  const int32_t size = experts / rule.num_groups, top_groups = rule.top_groups;
  float* scores = scratch.weights;
  for (int32_t g = 0; g < tokens * rule.num_groups; ++g) {
    scores[g] = group_score(scratch.keys + int64_t{g} * size, size, rule, scratch);
  }
  choose(scores, tokens, rule.num_groups, top_groups, scratch.groups, scratch.ordered);
  float* candidates = scratch.candidates;
  for (int32_t t = 0; t < tokens; ++t) {
    int32_t* groups = scratch.groups + t * top_groups;
    std::sort(groups, groups + top_groups);
    for (int32_t i = 0; i < top_groups; ++i) {
      const float* group = scratch.keys + int64_t{t} * experts + int64_t{groups[i]} * size;
      candidates = std::copy(group, group + size, candidates);
    }
  }
  choose(scratch.candidates, tokens, top_groups * size, rule.top_k, ids, scratch.ordered);
  for (int32_t t = 0; t < tokens; ++t) {
    const int32_t* groups = scratch.groups + t * top_groups;
    for (int32_t j = 0; j < rule.top_k; ++j, ++ids) *ids = groups[*ids / size] * size + *ids % size;
  }
}

// The experts [tokens, top_k] that the rule chooses, best first.
inline void choose_experts(const float* logits, int32_t tokens, int32_t experts, const GatingRule& rule,
                           const float* selection_bias, int32_t* ids, const GateScratch& scratch) {
  const bool by_logit = chooses_by_logit(rule, selection_bias);
  for (int32_t t = 0; t < tokens && !by_logit; ++t) {
    const int64_t row = int64_t{t} * experts;
    find_keys(logits + row, experts, rule, selection_bias, scratch.keys + row);
  }
  if (rule.num_groups == 1) {
    choose(by_logit ? logits : scratch.keys, tokens, experts, rule.top_k, ids, scratch.ordered);
  } else {
    choose_in_groups(tokens, experts, rule, ids, scratch);
  }
}
