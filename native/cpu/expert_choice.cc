#include "cpu/expert_choice.h"

#include <algorithm>
#include <atomic>
#include <cmath>

namespace moe::cpu {
namespace {

constexpr int64_t kTokensAtOnce = 64;

// One token's logits to scores; NaN stays NaN, and all become it where no logit is finite. Returns whether one is.
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
  float* lines = nullptr;
  MOE_TRY(reserve_workspace(context, [&](Arena& arena) {
    orders = arena.take<uint64_t>(tokens * context.team.threads);
    lines = arena.take<float>(experts * context.team.threads);
  }));
  std::atomic<int64_t> not_finite{0}, next_piece{0};
  context.team.run([&](const Worker& worker) {
    float* line = lines + worker.index * experts;
    for (int64_t piece; (piece = next_piece++) * kTokensAtOnce < tokens;) {
      const int64_t end = std::min(tokens, (piece + 1) * kTokensAtOnce);
      for (int64_t token = piece * kTokensAtOnce; token < end; ++token) {
        context.kernels.to_f32(p.logits.dtype, p.logits.as<const char>() + token * row_bytes, experts, line);
        float* scores = p.weights.as<float>() + token * experts;
        if (!score(context.kernels, line, experts, p.scoring, scores)) ++not_finite;
      }
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
