#include <atomic>

#include "cpu/operators.h"
#include "cpu/routing/gating.h"
#include "cpu/runtime/indices.h"

namespace moe::cpu {

Status run(Context& context, const GatingWeights& p) {
  constexpr int64_t kTokensAtOnce = 64;
  const int64_t experts = p.logits.shape[1], scratch_size = gating_scratch(experts);
  int32_t* scratch = nullptr;
  MOE_TRY(reserve_workspace(context,
                            [&](Arena& arena) { scratch = arena.take<int32_t>(scratch_size * context.team.threads); }));
  std::atomic<int64_t> not_finite{0};
  context.team.for_pieces(p.logits.shape[0], kTokensAtOnce, [&](int thread, int64_t begin, int64_t end) {
    not_finite += weigh_rows(context.kernels, p.logits, p.rule, p.ids.as<const int32_t>(), p.weights.as<float>(), begin,
                             end, scratch + thread * scratch_size);
  });
  context.warnings.non_finite_logit_rows += not_finite.load();
  return check_ids("gatingWeights: routing.ids", p.ids, p.ids.shape[1], TokenMask({}), experts, "an expert");
}

}  // namespace moe::cpu
