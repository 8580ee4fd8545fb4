#include <atomic>

#include "cpu/operators.h"
#include "cpu/routing/gating_gradient.h"
#include "cpu/runtime/indices.h"

namespace moe::cpu {

Status run(Context& context, const GatingWeights& p) {
  constexpr int64_t kTokensAtOnce = 64;
  const int64_t experts = p.logits.shape[1], top_k = p.ids.shape[1];
  const int64_t row_bytes = experts * static_cast<int64_t>(info(p.logits.dtype).bytes);
  float *lines = nullptr, *shares = nullptr;
  MOE_TRY(reserve_workspace(context, [&](Arena& arena) {
    lines = arena.take<float>(experts * context.team.threads);
    shares = arena.take<float>(experts * context.team.threads);
  }));
  std::atomic<int64_t> not_finite{0};
  context.team.for_pieces(p.logits.shape[0], kTokensAtOnce, [&](int thread, int64_t begin, int64_t end) {
    float* line = lines + thread * experts;
    for (int64_t token = begin; token < end; ++token) {
      context.kernels.to_f32(p.logits.dtype, p.logits.as<const char>() + token * row_bytes, experts, line);
      const LogitRow row(context.kernels, line, experts, p.rule.scoring, shares + thread * experts);
      if (!row.finite()) ++not_finite;
      const int32_t* ids = p.ids.as<const int32_t>() + token * top_k;
      float* weights = p.weights.as<float>() + token * top_k;
      const auto choice = [&](int slot) { return static_cast<int>(index_or_none(ids[slot], experts)); };
      dispatch_scoring(p.rule.scoring, [&](auto scoring) {
        const auto gate = fixed_gate<scoring>(p.rule, row, choice);
        for (int slot = 0; slot < p.rule.top_k; ++slot) weights[slot] = gate.weight(slot);
      });
    }
  });
  context.warnings.non_finite_logit_rows += not_finite.load();
  return check_ids("gatingWeights: routing.ids", p.ids, top_k, TokenMask({}), experts, "an expert");
}

}  // namespace moe::cpu
