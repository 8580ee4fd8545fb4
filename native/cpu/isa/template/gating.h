// Gating: keys, groups, choice and weights of one row of logits. See kernels.h here.

// Parts of a row's scratch; see gate_scratch().
struct GateScratch {
  int32_t* ranks;
  float* keys;
  float* candidates;    // keys of the chosen groups' experts, side by side
  float* group_scores;  // [num_groups]
  int32_t* groups;      // those chosen, ascending

  GateScratch(int32_t* base, int64_t experts)
      : ranks(base),
        keys(reinterpret_cast<float*>(base + rank_scratch(experts))),
        candidates(keys + whole_blocks(experts)),
        group_scores(candidates + whole_blocks(experts)),
        groups(reinterpret_cast<int32_t*>(group_scores + whole_blocks(experts))) {}
};

// What the experts are chosen by where logits alone do not serve.
inline void find_keys(const float* logits, int32_t experts, const GatingRule& rule, const float* selection_bias,
                      float* keys) {
  if (rule.selection_key == SelectionKey::logit) {
    score(Scoring::none, 0.0f, logits, experts, keys);
  } else {
    const float top = largest_of(logits, experts);
    score(rule.scoring, top, logits, experts, keys);
    if (rule.scoring == Scoring::softmax) {
      const float sum = sum_of(keys, experts);
      for (int32_t e = 0; e < experts; ++e) keys[e] = sum > 0 ? keys[e] / sum : 0.0f;
    }
  }
  if (selection_bias != nullptr) {
    for (int32_t e = 0; e < experts; ++e) keys[e] += selection_bias[e];
  }
  for (int32_t e = 0; e < experts; ++e) keys[e] = logits[e] != logits[e] ? NAN : keys[e];
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
  choose(keys, size, terms, largest, scratch.ranks);
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
  choose(scratch.group_scores, rule.num_groups, rule.top_groups, scratch.groups, scratch.ranks);
  std::sort(scratch.groups, scratch.groups + rule.top_groups);
  for (int32_t i = 0; i < rule.top_groups; ++i) {
    const float* group = keys + int64_t{scratch.groups[i]} * size;
    std::copy(group, group + size, scratch.candidates + int64_t{i} * size);
  }
  choose(scratch.candidates, rule.top_groups * size, rule.top_k, ids, scratch.ranks);
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

// Weights of the chosen experts before normalisation. `by_logit`: the first chosen has the largest logit of all.
inline void weigh(const float* logits, int32_t experts, const GatingRule& rule, bool by_logit, const int32_t* ids,
                  float* weights) {
  const int32_t count = rule.top_k;
  for (int32_t j = 0; j < count; ++j) weights[j] = logits[ids[j]];
  const bool selected = rule.scoring == Scoring::softmax_selected;
  if (!selected && rule.scoring != Scoring::softmax) return score(rule.scoring, 0.0f, weights, count, weights);
  const float top = by_logit && weights[0] == weights[0] ? weights[0]
                    : selected                           ? largest_of(weights, count)
                                                         : largest_of(logits, experts);
  score(rule.scoring, top, weights, count, weights);
  if (top == -INFINITY) return;
  // The sum over all experts cancels where the weights are divided by a sum of their own.
  if (rule.normalization == Normalization::sum || rule.normalization == Normalization::lp) return;
  const float sum = selected ? sum_of(weights, count) : sum_of_exponentials(logits, experts, top);
  for (int32_t j = 0; j < count; ++j) weights[j] /= sum;
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
      sum = sum + Vector::select_negative(reach - (best - logit), Vector::zero(), exp_or_zero(logit - best));
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

bool gate(const float* logits, int32_t experts, const GatingRule& rule, const float* selection_bias, int32_t* ids,
          float* weights, int32_t* base) {
  const GateScratch scratch(base, experts);
  const bool by_logit = selection_bias == nullptr && rule.num_groups == 1;
  if (by_logit) {
    choose(logits, experts, rule.top_k, ids, scratch.ranks);
  } else {
    find_keys(logits, experts, rule, selection_bias, scratch.keys);
    if (rule.num_groups == 1) {
      choose(scratch.keys, experts, rule.top_k, ids, scratch.ranks);
    } else {
      choose_in_groups(scratch.keys, experts, rule, ids, scratch);
    }
  }
  if (!any_finite(logits, experts)) {
    std::fill(weights, weights + rule.top_k, 0.0f);
    return false;
  }
  if (rule.scoring == Scoring::sparsemixer) {
    weigh_sparsemixer(logits, experts, rule, ids, weights, scratch.keys);
  } else {
    weigh(logits, experts, rule, by_logit, ids, weights);
  }
  normalize(rule, weights);
  return true;
}
