#include <algorithm>
#include <cmath>

#include "core/scores.h"
#include "cpu/operators.h"

namespace moe::cpu {
namespace {

constexpr int64_t kRowsAtOnce = 32;

// A token's gradients. Those that are not given are null, or 0.
struct Gradients {
  const float* scores;
  float log_sum_exp, entropy;
};

// One row's gradient by its logits. `scores` has room for a number per expert.
void add_up(const Kernels& kernels, const RouterScoresBackward& p, const Gradients& given, const float* logits,
            float* scores, float* gradient) {
  const int64_t experts = p.logits.shape[1];
  std::fill(gradient, gradient + experts, 0.0f);
  const bool sigmoids = p.scoring == ExpertScoring::sigmoid;
  if (given.scores != nullptr) {
    if (sigmoids) {
      kernels.sigmoid_scores(logits, experts, false, scores);
    } else {
      kernels.softmax_scores(logits, experts, scores);
    }
    double sum = 0, total = 0;
    for (int64_t e = 0; e < experts; ++e) {
      sum += scores[e];
      total += static_cast<double>(scores[e]) * given.scores[e];
    }
    const ScoreSlope slope{sigmoids, p.normalize, static_cast<float>(sum)};
    for (int64_t e = 0; e < experts; ++e) {
      gradient[e] = slope(scores[e], sigmoids ? sigmoid(-logits[e]) : 0.0f, given.scores[e], static_cast<float>(total));
    }
  }
  if (!p.d_log_sum_exp.absent() || !p.d_entropy.absent()) {
    const SoftmaxRow row = kernels.softmax_scores(logits, experts, scores);
    for (int64_t e = 0; e < experts; ++e) {
      if (scores[e] == 0.0f) continue;
      const double distance = row.entropy + (logits[e] - row.log_sum_exp);
      gradient[e] += scores[e] * (given.log_sum_exp - static_cast<float>(distance) * given.entropy);
    }
  }
  for (int64_t e = 0; e < experts; ++e) gradient[e] = std::isfinite(logits[e]) ? gradient[e] : 0.0f;
}

}  // namespace

Status run(Context& context, const RouterScoresBackward& p) {
  const int64_t experts = p.logits.shape[1];
  float *lines = nullptr, *scores = nullptr;
  MOE_TRY(reserve_workspace(context, [&](Arena& arena) {
    lines = arena.take<float>(experts * context.team.threads);
    scores = arena.take<float>(experts * context.team.threads);
  }));
  context.team.for_pieces(p.logits.shape[0], kRowsAtOnce, [&](int thread, int64_t begin, int64_t end) {
    float* line = lines + thread * experts;
    for (int64_t token = begin; token < end; ++token) {
      context.kernels.to_f32(p.logits.dtype, p.logits.at(token), experts, line);
      const Gradients given{
          .scores = p.d_scores.absent() ? nullptr : p.d_scores.as<const float>() + token * experts,
          .log_sum_exp = p.d_log_sum_exp.absent() ? 0.0f : p.d_log_sum_exp.as<const float>()[token],
          .entropy = p.d_entropy.absent() ? 0.0f : p.d_entropy.as<const float>()[token],
      };
      add_up(context.kernels, p, given, line, scores + thread * experts, p.d_logits.as<float>() + token * experts);
    }
  });
  return {};
}

}  // namespace moe::cpu
