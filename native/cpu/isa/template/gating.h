// Gating: keys, groups, choice and weights. See kernels.h here.

// Parts of a row's scratch; see gate_scratch().
struct GateScratch {
  int32_t* ranks;
  float* keys;
  float* candidates;    // keys of the chosen groups' experts, side by side
  float* group_scores;  // [num_groups]
  int32_t* groups;      // those chosen, ascending

  GateScratch(int32_t* base, int64_t experts)
      : ranks(base),
        keys(reinterpret_cast<float*>(base + kGateTokens * rank_scratch(experts))),
        candidates(keys + whole_blocks(experts)),
        group_scores(candidates + whole_blocks(experts)),
        groups(reinterpret_cast<int32_t*>(group_scores + whole_blocks(experts))) {}
};

// What the experts are chosen by where logits alone do not serve.
inline void find_keys(const float* logits, int32_t experts, const GatingRule& rule, const float* selection_bias,
                      float* keys) {
  const bool by_score = rule.selection_key == SelectionKey::score;
  const bool softmax = by_score && rule.scoring == Scoring::softmax;
  const float top = softmax ? largest_of(logits, experts) : 0.0f;
  for (int32_t e = 0; e < experts; ++e) keys[e] = softmax ? shifted(logits[e], top) : logits[e];
  score(by_score ? rule.scoring : Scoring::none, keys, experts);
  const float sum = softmax ? std::max(sum_of(keys, experts), 1.0f) : 1.0f;
  for (int32_t e = 0; e < experts; ++e) {
    const float key = keys[e] / sum + (selection_bias == nullptr ? 0.0f : selection_bias[e]);
    keys[e] = logits[e] != logits[e] ? NAN : key;
  }
}

// The largest key, or the sum of the two largest; NaN counts as -infinity.
inline float sum_of_two(const float* keys, int32_t count, bool both) {
  const Vector none = Vector::broadcast(-INFINITY);
  Vector first = none, second = none;
  alignas(64) float buffer[2 * kWidth];
  for (int32_t i = 0; i < count; i += kWidth) {
    const float* source = keys + i;
    if (i + kWidth > count) {
      std::fill(std::copy(source, keys + count, buffer), buffer + kWidth, -INFINITY);
      source = buffer;
    }
    const Vector key = Vector::max(Vector::load(source), none);
    second = Vector::max(second, Vector::min(first, key));
    first = Vector::max(first, key);
  }
  first.store(buffer);
  second.store(buffer + kWidth);
  const float largest = largest_of(buffer, kWidth);
  if (!both) return largest;
  *std::find(buffer, buffer + kWidth, largest) = -INFINITY;
  return largest + largest_of(buffer, 2 * kWidth);
}

inline float group_score(const float* keys, int32_t size, const GatingRule& rule, const GateScratch& scratch) {
  const int32_t terms = rule.group_terms();
  if (terms <= 2) return sum_of_two(keys, size, terms == 2);
  int32_t* largest = scratch.groups;
  choose(keys, 1, size, terms, largest, scratch.ranks);
  float sum = 0;
  for (int32_t j = 0; j < terms; ++j) sum += keys[largest[j]] != keys[largest[j]] ? -INFINITY : keys[largest[j]];
  return sum;
}

// Chooses among the experts of the best groups.
inline void choose_in_groups(const float* keys, int32_t experts, const GatingRule& rule, int32_t* ids,
                             const GateScratch& scratch) {
  const int32_t size = experts / rule.num_groups;
  for (int32_t g = 0; g < rule.num_groups; ++g) {
    scratch.group_scores[g] = group_score(keys + int64_t{g} * size, size, rule, scratch);
  }
  choose(scratch.group_scores, 1, rule.num_groups, rule.top_groups, scratch.groups, scratch.ranks);
  std::sort(scratch.groups, scratch.groups + rule.top_groups);
  for (int32_t i = 0; i < rule.top_groups; ++i) {
    const float* group = keys + int64_t{scratch.groups[i]} * size;
    std::copy(group, group + size, scratch.candidates + int64_t{i} * size);
  }
  choose(scratch.candidates, 1, rule.top_groups * size, rule.top_k, ids, scratch.ranks);
  for (int32_t j = 0; j < rule.top_k; ++j) ids[j] = scratch.groups[ids[j] / size] * size + ids[j] % size;
}

// The L^p norm over its largest value, which is therefore no factor that could overflow.
inline float relative_norm(const float* weights, int32_t count, float power, float largest) {
  float sum = 0;
  for (int32_t j = 0; j < count; ++j) sum += std::pow(std::fabs(weights[j]) / largest, power);
  return std::pow(sum, 1.0f / power);
}

// Divides the weights as the rule says, and scales them.
inline void normalize(const GatingRule& rule, float* weights) {
  const int32_t count = rule.top_k;
  float divisor = 1.0f;
  switch (rule.normalization) {
    case Normalization::none: break;
    case Normalization::sum: divisor = sum_of(weights, count); break;
    case Normalization::sum_plus_epsilon: divisor = sum_of(weights, count) + rule.epsilon; break;
    case Normalization::clamped_sum: divisor = std::max(sum_of(weights, count), rule.epsilon); break;
    case Normalization::lp: {
      float largest = 0;
      for (int32_t j = 0; j < count; ++j) largest = std::max(largest, std::fabs(weights[j]));
      if (largest == 0) return;
      divisor = relative_norm(weights, count, rule.power, largest);
      for (int32_t j = 0; j < count; ++j) weights[j] /= largest;
    }
  }
  for (int32_t j = 0; j < count; ++j) weights[j] = divisor == 0 ? 0.0f : weights[j] / divisor * rule.scale;
}

// Weights of the chosen experts before normalisation. `by_logit`: they were chosen by logit, so the first has a row's
// largest.
inline void weigh(const float* logits, int32_t tokens, int32_t experts, const GatingRule& rule, bool by_logit,
                  const int32_t* ids, float* weights) {
  const int32_t count = rule.top_k;
  const bool selected = rule.scoring == Scoring::softmax_selected;
  const bool softmax = selected || rule.scoring == Scoring::softmax;
  float tops[kGateTokens];
  for (int32_t t = 0; t < tokens; ++t) {
    const float* row = logits + int64_t{t} * experts;
    float* chosen = weights + t * count;
    for (int32_t j = 0; j < count; ++j) chosen[j] = row[ids[t * count + j]];
    if (!softmax) continue;
    tops[t] = by_logit || selected ? largest_of(chosen, by_logit ? 1 : count) : largest_of(row, experts);
    for (int32_t j = 0; j < count; ++j) chosen[j] = shifted(chosen[j], tops[t]);
  }
  score(rule.scoring, weights, tokens * count);
  // The sum over all experts cancels where the weights are divided by a sum of their own.
  if (!softmax || rule.normalization == Normalization::sum || rule.normalization == Normalization::lp) return;
  for (int32_t t = 0; t < tokens; ++t) {
    float* chosen = weights + t * count;
    const float sum =
        selected ? sum_of(chosen, count) : sum_of_exponentials(logits + int64_t{t} * experts, experts, tops[t]);
    for (int32_t j = 0; j < count; ++j) chosen[j] = sum > 0 ? chosen[j] / sum : 0.0f;
  }
}

// SparseMixer: each choice's softmax goes over those left whose distance from it is at most 2 * jitter times the larger
// of its logit and their magnitude.
inline void weigh_sparsemixer(const float* logits, int32_t experts, const GatingRule& rule, const int32_t* ids,
                              float* weights, float* left) {
  const int64_t whole = whole_blocks(experts);
  const Vector none = Vector::broadcast(-INFINITY), width = Vector::broadcast(2.0f * rule.jitter);
  std::fill(std::copy(logits, logits + experts, left), left + whole, -INFINITY);
  for (int32_t j = 0; j < rule.top_k; ++j) {
    const float top = logits[ids[j]];
    if (!(std::fabs(top) < INFINITY)) {
      weights[j] = top > 0 ? 1.0f / static_cast<float>(std::count(left, left + experts, top)) : 0.0f;
      left[ids[j]] = -INFINITY;
      continue;
    }
    const Vector best = Vector::broadcast(top);
    Vector sum = Vector::zero();
    for (int64_t i = 0; i < whole; i += kWidth) {
      const Vector logit = Vector::max(Vector::load(left + i), none);
      const Vector reach = width * Vector::max(logit.abs(), best);
      sum = sum + Vector::select_negative(reach - (best - logit), Vector::zero(), Exponential::apply(logit - best));
    }
    alignas(64) float lanes[kWidth];
    sum.store(lanes);
    weights[j] = 1.0f / sum_of(lanes, kWidth);
    left[ids[j]] = -INFINITY;
  }
}

inline bool any_finite(const float* logits, int32_t experts) {
  for (int32_t e = 0; e < experts; ++e) {
    if (std::fabs(logits[e]) < INFINITY) return true;
  }
  return false;
}

int32_t gate(const float* logits, int32_t tokens, int32_t experts, const GatingRule& rule, const float* selection_bias,
             int32_t* ids, float* weights, int32_t* base) {
  const GateScratch scratch(base, experts);
  const bool by_logit = selection_bias == nullptr && rule.num_groups == 1;
  if (by_logit) choose(logits, tokens, experts, rule.top_k, ids, scratch.ranks);
  for (int32_t t = 0; t < tokens && !by_logit; ++t) {
    find_keys(logits + int64_t{t} * experts, experts, rule, selection_bias, scratch.keys);
    if (rule.num_groups == 1) {
      choose(scratch.keys, 1, experts, rule.top_k, ids + t * rule.top_k, scratch.ranks);
    } else {
      choose_in_groups(scratch.keys, experts, rule, ids + t * rule.top_k, scratch);
    }
  }
  if (rule.scoring == Scoring::sparsemixer) {
    for (int32_t t = 0; t < tokens; ++t) {
      const int32_t slot = t * rule.top_k;
      weigh_sparsemixer(logits + int64_t{t} * experts, experts, rule, ids + slot, weights + slot, scratch.keys);
    }
  } else {
    weigh(logits, tokens, experts, rule, by_logit, ids, weights);
  }
  int32_t not_finite = 0;
  for (int32_t t = 0; t < tokens; ++t) {
    if (any_finite(logits + int64_t{t} * experts, experts)) {
      normalize(rule, weights + t * rule.top_k);
    } else {
      ++not_finite;
      std::fill_n(weights + t * rule.top_k, rule.top_k, 0.0f);
    }
  }
  return not_finite;
}
