#include "cpu/operators.h"

namespace moe::cpu {

constexpr int64_t kRowsAtOnce = 32;

Status run(Context& context, const RouterScores& p) {
  const int64_t experts = p.logits.shape[1];
  float* lines = nullptr;
  MOE_TRY(reserve_workspace(context, [&](Arena& arena) { lines = arena.take<float>(experts * context.team.threads); }));
  context.team.for_pieces(p.logits.shape[0], kRowsAtOnce, [&](int thread, int64_t begin, int64_t end) {
    float* line = lines + thread * experts;
    for (int64_t token = begin; token < end; ++token) {
      context.kernels.to_f32(p.logits.dtype, p.logits.at(token), experts, line);
      float* scores = p.scores.absent() ? nullptr : p.scores.as<float>() + token * experts;
      const bool sigmoid = scores != nullptr && p.scoring == ExpertScoring::sigmoid;
      if (sigmoid) context.kernels.sigmoid_scores(line, experts, p.normalize, scores);
      if (sigmoid && p.log_sum_exp.absent() && p.entropy.absent()) continue;
      const SoftmaxRow row = context.kernels.softmax_scores(line, experts, sigmoid ? nullptr : scores);
      if (!p.log_sum_exp.absent()) p.log_sum_exp.as<float>()[token] = static_cast<float>(row.log_sum_exp);
      if (!p.entropy.absent()) p.entropy.as<float>()[token] = static_cast<float>(row.entropy);
    }
  });
  return {};
}

}  // namespace moe::cpu
