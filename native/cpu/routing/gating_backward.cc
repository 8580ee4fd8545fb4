#include "cpu/operators.h"
#include "cpu/routing/gating_gradient.h"
#include "cpu/runtime/indices.h"

namespace moe::cpu {

Status run(Context& context, const GatingBackward& p) {
  constexpr int64_t kTokensAtOnce = 64;
  const int64_t experts = p.logits.shape[1], top_k = p.ids.shape[1];
  const int64_t row_bytes = experts * static_cast<int64_t>(info(p.logits.dtype).bytes);
  float *lines = nullptr, *shares = nullptr;
  MOE_TRY(reserve_workspace(context, [&](Arena& arena) {
    lines = arena.take<float>(experts * context.team.threads);
    shares = arena.take<float>(experts * context.team.threads);
  }));
  context.team.for_pieces(p.logits.shape[0], kTokensAtOnce, [&](int thread, int64_t begin, int64_t end) {
    float* line = lines + thread * experts;
    for (int64_t token = begin; token < end; ++token) {
      context.kernels.to_f32(p.logits.dtype, p.logits.as<const char>() + token * row_bytes, experts, line);
      const LogitRow row(context.kernels, line, experts, p.rule.scoring, shares + thread * experts);
      float* gradient = p.d_logits.as<float>() + token * experts;
      std::fill(gradient, gradient + experts, 0.0f);
      const int32_t* ids = p.ids.as<const int32_t>() + token * top_k;
      const float* weight_gradient = p.d_weights.as<const float>() + token * top_k;
      const auto choice = [&](int slot) { return static_cast<int>(index_or_none(ids[slot], experts)); };
      dispatch_scoring(p.rule.scoring, [&](auto scoring) {
        fixed_gate<scoring>(p.rule, row, choice)
            .add_gradient([&](int slot) { return weight_gradient[slot]; }, gradient);
      });
    }
  });
  return check_ids("gatingBackward: routing.ids", p.ids, top_k, TokenMask({}), experts, "an expert");
}

}  // namespace moe::cpu
