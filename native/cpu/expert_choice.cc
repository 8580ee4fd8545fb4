#include "cpu/expert_choice.h"

#include <algorithm>
#include <atomic>
#include <cmath>

namespace moe::cpu {
namespace {

constexpr int64_t kTokensAtOnce = 64;

// Turns one token's logits into scores; NaN stays NaN, and all become it where no logit is finite. Returns whether one
// is.
bool score(float* row, int64_t experts, ExpertScoring scoring) {
  float max = -INFINITY;
  bool finite = false;
  for (int64_t e = 0; e < experts; ++e) {
    max = std::max(max, row[e]);  // which NaN is not
    finite = finite || std::isfinite(row[e]);
  }
  if (!finite) {
    std::fill(row, row + experts, NAN);
    return false;
  }
  if (scoring == ExpertScoring::sigmoid) {
    for (int64_t e = 0; e < experts; ++e) row[e] = 1.0f / (1.0f + std::exp(-row[e]));
    return true;
  }
  float sum = 0.0f;
  for (int64_t e = 0; e < experts; ++e) {
    row[e] = row[e] == max ? 1.0f : std::exp(row[e] - max);
    if (!std::isnan(row[e])) sum += row[e];
  }
  for (int64_t e = 0; e < experts; ++e) row[e] /= sum;
  return true;
}

// One expert's tokens, by the scores in its column of p.weights. `order` holds a number for every token.
void choose(const ExpertChoice& p, int64_t expert, uint64_t* order) {
  const int64_t tokens = p.weights.shape[0], experts = p.weights.shape[1], capacity = p.tokens.shape[1];
  float* scores = p.weights.as<float>() + expert;
  for (int64_t token = 0; token < tokens; ++token) {
    order[token] = uint64_t{descending_order(scores[token * experts])} << 32 | static_cast<uint64_t>(token);
  }
  std::nth_element(order, order + capacity, order + tokens);
  std::sort(order, order + capacity);

  int32_t* ids = p.ids.as<int32_t>() + expert;
  for (int64_t token = 0; token < tokens; ++token) ids[token * experts] = -1;
  for (int64_t place = 0; place < capacity; ++place) {
    const auto token = static_cast<int32_t>(order[place] & UINT32_MAX);
    const float score = scores[token * experts];
    ids[token * experts] = static_cast<int32_t>(expert);
    p.tokens.as<int32_t>()[expert * capacity + place] = token;
    p.token_weights.as<float>()[expert * capacity + place] = std::isnan(score) ? 0.0f : score;
  }
  for (int64_t token = 0; token < tokens; ++token) {
    float& weight = scores[token * experts];
    if (ids[token * experts] < 0 || std::isnan(weight)) weight = 0.0f;
  }
}

}  // namespace

Status expert_choice(Context& context, const ExpertChoice& p) {
  const int64_t tokens = p.logits.shape[0], experts = p.logits.shape[1];
  const int64_t row_bytes = experts * static_cast<int64_t>(info(p.logits.dtype).bytes);
  uint64_t* orders = nullptr;
  MOE_TRY(
      reserve_workspace(context, [&](Arena& arena) { orders = arena.take<uint64_t>(tokens * context.team.threads); }));
  std::atomic<int64_t> not_finite{0};
  context.team.for_range(tokens, kTokensAtOnce, [&](int64_t begin, int64_t end) {
    for (int64_t token = begin; token < end; ++token) {
      float* row = p.weights.as<float>() + token * experts;
      context.kernels.to_f32(p.logits.dtype, p.logits.as<const char>() + token * row_bytes, experts, row);
      if (!score(row, experts, p.scoring)) ++not_finite;
    }
  });
  context.warnings.non_finite_logit_rows += not_finite.load();
  std::atomic<int64_t> next{0};
  context.team.run([&](const Worker& worker) {
    for (int64_t expert; (expert = next++) < experts;) choose(p, expert, orders + worker.index * tokens);
  });
  return {};
}

}  // namespace moe::cpu
