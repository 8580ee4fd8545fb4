#include <atomic>

#include "cpu/operators.h"
#include "cpu/routing/gating_gradient.h"

namespace moe::cpu {

Status run(Context& context, const GatingWeights& p) {
  const int64_t experts = p.logits.shape[1], top_k = p.ids.shape[1];
  std::atomic<int64_t> not_finite{0};
  MOE_TRY(
      for_each_fixed_gate(context, p.logits, p.ids, p.rule, [&](int64_t token, const LogitRow& row, const auto& gate) {
        if (!row.finite()) ++not_finite;
        float* weights = p.weights.as<float>() + token * top_k;
        for (int slot = 0; slot < p.rule.top_k; ++slot) weights[slot] = gate.weight(slot);
      }));
  context.warnings.non_finite_logit_rows += not_finite.load();
  return check_ids("gatingWeights: routing.ids", p.ids, top_k, TokenMask({}), experts, "an expert");
}

}  // namespace moe::cpu
