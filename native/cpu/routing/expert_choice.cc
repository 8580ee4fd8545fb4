#include <algorithm>
#include <atomic>
#include <cmath>

#include "core/divide.h"
#include "cpu/operators.h"

namespace moe::cpu {
namespace {

constexpr int64_t kTokensAtOnce = 64;
// Experts that a thread takes at a time, if there are enough for all threads: their scores fill a cache line.
constexpr int64_t kMostExpertsAtOnce = 16;

// Turns one token's logits into scores. NaN stays NaN; if no logit is finite, all become NaN. Returns whether any is.
bool score(const Kernels& kernels, const float* logits, int64_t experts, ExpertScoring scoring, float* scores) {
  int64_t finite = 0;
  for (int64_t e = 0; e < experts; ++e) finite += std::fabs(logits[e]) < INFINITY ? 1 : 0;
  if (finite == 0) {
    std::fill(scores, scores + experts, NAN);
    return false;
  }
  if (scoring == ExpertScoring::sigmoid) {
    kernels.sigmoid_scores(logits, experts, false, scores);
  } else {
    kernels.softmax_scores(logits, experts, scores);
  }
  for (int64_t e = 0; e < experts; ++e) scores[e] = std::isnan(logits[e]) ? NAN : scores[e];
  return true;
}

// Chooses tokens for experts first .. end - 1 by the scores in their columns of p.weights. The columns are read and
// written once, row by row: columns a power of two apart would compete for a few cache sets. `keys` has room for a
// number per token and expert, `order` for one per token.
void choose(const ExpertChoice& p, int64_t first, int64_t end, uint32_t* keys, uint64_t* order) {
  const int64_t tokens = p.weights.shape[0], experts = p.weights.shape[1], capacity = p.tokens.shape[1];
  auto* scores = p.weights.as<float>();
  auto* ids = p.ids.as<int32_t>();
  for (int64_t token = 0; token < tokens; ++token) {
    for (int64_t e = first; e < end; ++e) {
      keys[(e - first) * tokens + token] = descending_order(scores[token * experts + e]);
    }
  }
  const auto place_of = [&](int64_t e, int64_t token) {
    return uint64_t{keys[(e - first) * tokens + token]} << 32 | static_cast<uint64_t>(token);
  };
  uint64_t bounds[kMostExpertsAtOnce];  // exclusive bounds of the chosen tokens' order
  for (int64_t e = first; e < end; ++e) {
    for (int64_t token = 0; token < tokens; ++token) order[token] = place_of(e, token);
    std::nth_element(order, order + capacity, order + tokens);
    bounds[e - first] = capacity < tokens ? order[capacity] : UINT64_MAX;
    std::sort(order, order + capacity);
    for (int64_t i = 0; i < capacity; ++i) {
      const auto token = static_cast<int32_t>(order[i] & UINT32_MAX);
      const float score = scores[token * experts + e];
      p.tokens.as<int32_t>()[e * capacity + i] = token;
      p.token_weights.as<float>()[e * capacity + i] = std::isnan(score) ? 0.0f : score;
    }
  }
  for (int64_t token = 0; token < tokens; ++token) {
    for (int64_t e = first; e < end; ++e) {
      const bool chosen = place_of(e, token) < bounds[e - first];
      float& weight = scores[token * experts + e];
      ids[token * experts + e] = chosen ? static_cast<int32_t>(e) : -1;
      if (!chosen || std::isnan(weight)) weight = 0.0f;
    }
  }
}

}  // namespace

Status run(Context& context, const ExpertChoice& p) {
  const int64_t tokens = p.logits.shape[0], experts = p.logits.shape[1];
  const int64_t threads = context.team.threads;
  const int64_t at_once = std::clamp(ceil_divide(experts, threads), int64_t{1}, kMostExpertsAtOnce);
  uint64_t* orders = nullptr;
  uint32_t* keys = nullptr;
  float* lines = nullptr;
  MOE_TRY(reserve_workspace(context, [&](Arena& arena) {
    orders = arena.take<uint64_t>(tokens * threads);
    keys = arena.take<uint32_t>(tokens * at_once * threads);
    lines = arena.take<float>(experts * threads);
  }));
  std::atomic<int64_t> not_finite{0};
  context.team.for_pieces(tokens, kTokensAtOnce, [&](int thread, int64_t begin, int64_t end) {
    float* line = lines + thread * experts;
    for (int64_t token = begin; token < end; ++token) {
      context.kernels.to_f32(p.logits.dtype, p.logits.at(token), experts, line);
      float* scores = p.weights.as<float>() + token * experts;
      if (!score(context.kernels, line, experts, p.scoring, scores)) ++not_finite;
    }
  });
  context.warnings.non_finite_logit_rows += not_finite.load();
  context.team.for_pieces(experts, at_once, [&](int thread, int64_t first, int64_t end) {
    choose(p, first, end, keys + thread * tokens * at_once, orders + thread * tokens);
  });
  return {};
}

}  // namespace moe::cpu
