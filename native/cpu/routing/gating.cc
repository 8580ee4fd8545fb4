#include "cpu/routing/gating.h"

#include <algorithm>
#include <atomic>

#include "cpu/operators.h"

namespace moe::cpu {

namespace {

// Calls gate(logits, tokens, token) for at most kGateTokens rows of float32 logits at a time, from `token` on,
// and adds up what it returns.
template <class Gate>
int64_t for_each_block(const Kernels& kernels, const TensorView& logits, int64_t first, int64_t end, int32_t* scratch,
                       Gate&& gate) {
  const int64_t experts = logits.shape[1];
  float* converted = reinterpret_cast<float*>(scratch + gate_scratch(experts));
  int64_t total = 0;
  for (int64_t token = first; token < end; token += kGateTokens) {
    const int64_t tokens = std::min<int64_t>(kGateTokens, end - token);
    const char* source = logits.at(token);
    const float* rows = reinterpret_cast<const float*>(source);
    if (logits.dtype != DType::f32) {
      kernels.to_f32(logits.dtype, source, tokens * experts, converted);
      rows = converted;
    }
    total += gate(rows, static_cast<int32_t>(tokens), token);
  }
  return total;
}

}  // namespace

int64_t gate_rows(const Kernels& kernels, const TensorView& logits, const GatingRule& rule, const float* selection_bias,
                  int32_t* ids, float* weights, int64_t first, int64_t end, int32_t* scratch) {
  const auto experts = static_cast<int32_t>(logits.shape[1]);
  return for_each_block(kernels, logits, first, end, scratch, [&](const float* rows, int32_t tokens, int64_t token) {
    const int64_t slot = token * rule.top_k;
    return kernels.gate(rows, tokens, experts, rule, selection_bias, ids + slot, weights + slot, scratch);
  });
}

int64_t weigh_rows(const Kernels& kernels, const TensorView& logits, const GatingRule& rule, const int32_t* ids,
                   float* weights, int64_t first, int64_t end, int32_t* scratch) {
  const auto experts = static_cast<int32_t>(logits.shape[1]);
  return for_each_block(kernels, logits, first, end, scratch, [&](const float* rows, int32_t tokens, int64_t token) {
    const int64_t slot = token * rule.top_k;
    return kernels.weigh(rows, tokens, experts, rule, ids + slot, weights + slot, scratch);
  });
}

Status run(Context& context, const Gating& p) {
  constexpr int64_t kTokensAtOnce = 64;
  const int64_t scratch = gating_scratch(p.logits.shape[1]);
  int32_t* gate = nullptr;
  float* bias = nullptr;
  MOE_TRY(reserve_workspace(context, [&](Arena& arena) {
    gate = arena.take<int32_t>(scratch * context.team.threads);
    bias = p.selection_bias.absent() ? nullptr : arena.take<float>(p.selection_bias.size());
  }));
  if (!p.selection_bias.absent()) {
    context.kernels.to_f32(p.selection_bias.dtype, p.selection_bias.data, p.selection_bias.size(), bias);
  }
  std::atomic<int64_t> not_finite{0};
  context.team.for_pieces(p.logits.shape[0], kTokensAtOnce, [&](int thread, int64_t begin, int64_t end) {
    not_finite += gate_rows(context.kernels, p.logits, p.rule, bias, p.ids.as<int32_t>(), p.weights.as<float>(), begin,
                            end, gate + thread * scratch);
  });
  context.warnings.non_finite_logit_rows += not_finite.load();
  return {};
}

}  // namespace moe::cpu
