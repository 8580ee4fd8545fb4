// Gating and top-k. See kernels.h here.

// An integer that orders like the logit: -0 equals +0, NaN is below -infinity, and INT32_MIN, a chosen expert, is last.
inline int32_t rank_of(float logit) {
  const int32_t bits = static_cast<int32_t>(float_bits(logit + 0.0f));
  const int32_t ordered = bits ^ ((bits >> 31) & INT32_MAX);
  return logit != logit ? INT32_MIN + 1 : ordered;
}

// A row's ranks in blocks of kRankBlock, and the largest rank of every block in blocks of their own: finding the
// largest of all and taking it out touches one block of each.
struct RankedRow {
  int32_t* ranks;
  int32_t* largest;
  int32_t blocks;
};

inline RankedRow rank_row(const float* logits, int32_t experts, int32_t* scratch) {
  RankedRow row{scratch, scratch + whole_blocks(experts), static_cast<int32_t>(whole_blocks(experts)) / kRankBlock};
  for (int32_t e = 0; e < experts; ++e) row.ranks[e] = rank_of(logits[e]);
  std::fill(row.ranks + experts, row.ranks + row.blocks * kRankBlock, INT32_MIN);
  for (int32_t b = 0; b < row.blocks; ++b) row.largest[b] = RankBlock::load(row.ranks + b * kRankBlock).largest();
  std::fill(row.largest + row.blocks, row.largest + whole_blocks(row.blocks), INT32_MIN);
  return row;
}

// Takes the largest rank out of the row and returns its expert: of equal ones the first.
inline int32_t take_largest(const RankedRow& row) {
  const int32_t groups = static_cast<int32_t>(whole_blocks(row.blocks)) / kRankBlock;
  int32_t top = INT32_MIN;
  for (int32_t g = 0; g < groups; ++g) top = std::max(top, RankBlock::load(row.largest + g * kRankBlock).largest());
  int32_t* group = row.largest;
  RankBlock largest = RankBlock::load(group);
  while (!largest.contains(top)) largest = RankBlock::load(group += kRankBlock);
  const int block_lane = largest.first(top);
  const int32_t block = static_cast<int32_t>(group - row.largest) + block_lane;
  RankBlock ranks = RankBlock::load(row.ranks + block * kRankBlock);
  const int lane = ranks.first(top);
  ranks.replace(lane, INT32_MIN);
  ranks.store(row.ranks + block * kRankBlock);
  largest.replace(block_lane, ranks.largest());
  largest.store(group);
  return block * kRankBlock + lane;
}

// The sum over a row of e^(logit - top) of finite top. NaN and -infinity count as the lowest number, whose share is
// none.
inline float sum_of_exponentials(const float* logits, int32_t experts, float top) {
  const Vector lowest = Vector::broadcast(-3.4e38f), shift = Vector::broadcast(top);
  Vector lanes = Vector::zero();
  int32_t e = 0;
  for (; e + kWidth <= experts; e += kWidth) lanes = lanes + exp(Vector::max(Vector::load(logits + e), lowest) - shift);
  alignas(64) float buffer[kWidth];
  if (e < experts) {
    std::fill(std::copy(logits + e, logits + experts, buffer), buffer + kWidth, -INFINITY);
    lanes = lanes + exp(Vector::max(Vector::load(buffer), lowest) - shift);
  }
  lanes.store(buffer);
  float sum = 0;
  for (const float lane : buffer) sum += lane;
  return sum;
}

// Weights of the chosen experts before scaling: e^(logit - top); NaN and -infinity have no weight, and where the top is
// +infinity only what equals it has. Returns their sum.
inline float weigh_chosen(const float* logits, const int32_t* ids, int32_t top_k, float top, float* weights) {
  alignas(64) float buffer[kWidth];
  float sum = 0;
  for (int32_t begin = 0; begin < top_k; begin += kWidth) {
    const int32_t count = std::min<int32_t>(kWidth, top_k - begin);
    for (int32_t j = 0; j < kWidth; ++j) buffer[j] = j < count ? logits[ids[begin + j]] - top : 0.0f;
    exp(Vector::load(buffer)).store(buffer);
    for (int32_t j = 0; j < count; ++j) {
      const float logit = logits[ids[begin + j]];
      const float weight = logit == top ? 1.0f : logit > -INFINITY && top < INFINITY ? buffer[j] : 0.0f;
      weights[begin + j] = weight;
      sum += weight;
    }
  }
  return sum;
}

inline bool any_finite(const float* logits, int32_t experts) {
  for (int32_t e = 0; e < experts; ++e) {
    if (std::fabs(logits[e]) < INFINITY) return true;
  }
  return false;
}

// Returns false where no logit is finite.
inline bool weigh(const float* logits, int32_t experts, const GatingRule& rule, const int32_t* ids, float* weights) {
  const float top = logits[ids[0]];
  // The largest is finite wherever any logit is, unless it is +infinity.
  if (!(std::fabs(top) < INFINITY) && !(top > 0 && any_finite(logits, experts))) {
    std::fill(weights, weights + rule.top_k, 0.0f);
    return false;
  }
  float sum = weigh_chosen(logits, ids, rule.top_k, top, weights);
  if (rule.scoring == Scoring::softmax && rule.normalization == Normalization::none) {
    // With normalize the sum over all experts cancels.
    sum = top < INFINITY ? sum_of_exponentials(logits, experts, top)
                         : static_cast<float>(std::count(logits, logits + experts, top));
  }
  const float factor = rule.scale / sum;
  for (int32_t j = 0; j < rule.top_k; ++j) weights[j] *= factor;
  return true;
}

int32_t gate(const float* logits, int32_t tokens, int32_t experts, const GatingRule& rule, int32_t* ids, float* weights,
             int32_t* scratch) {
  RankedRow rows[kGateTokens];
  const int64_t row_scratch = rank_scratch(experts) / kGateTokens;
  for (int32_t t = 0; t < tokens; ++t)
    rows[t] = rank_row(logits + int64_t{t} * experts, experts, scratch + t * row_scratch);
  // Side by side, since each choice waits for the one before.
  for (int32_t j = 0; j < rule.top_k; ++j) {
    for (int32_t t = 0; t < tokens; ++t) ids[t * rule.top_k + j] = take_largest(rows[t]);
  }
  int32_t not_finite = 0;
  for (int32_t t = 0; t < tokens; ++t) {
    const int32_t slot = t * rule.top_k;
    not_finite += weigh(logits + int64_t{t} * experts, experts, rule, ids + slot, weights + slot) ? 0 : 1;
  }
  return not_finite;
}
