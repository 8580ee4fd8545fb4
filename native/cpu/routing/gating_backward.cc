#include <algorithm>

#include "cpu/operators.h"
#include "cpu/routing/gating_gradient.h"

namespace moe::cpu {

Status run(Context& context, const GatingBackward& p) {
  const int64_t experts = p.logits.shape[1], top_k = p.ids.shape[1];
  MOE_TRY(for_each_fixed_gate(context, p.logits, p.ids, p.rule, [&](int64_t token, const LogitRow&, const auto& gate) {
    float* gradient = p.d_logits.as<float>() + token * experts;
    std::fill(gradient, gradient + experts, 0.0f);
    const float* weight_gradient = p.d_weights.as<const float>() + token * top_k;
    gate.add_gradient([&](int slot) { return weight_gradient[slot]; }, gradient);
  }));
  return check_ids("gatingBackward: routing.ids", p.ids, top_k, TokenMask({}), experts, "an expert");
}

}  // namespace moe::cpu
