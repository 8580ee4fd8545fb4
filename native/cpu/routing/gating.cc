#include "cpu/routing/gating.h"

#include <algorithm>

namespace moe::cpu {

int64_t gate_rows(const Kernels& kernels, const TensorView& logits, const GatingRule& rule, const float* selection_bias,
                  int32_t* ids, float* weights, int64_t first, int64_t end, int32_t* scratch) {
  const int64_t experts = logits.shape[1];
  const int64_t row_bytes = experts * static_cast<int64_t>(info(logits.dtype).bytes);
  float* converted = reinterpret_cast<float*>(scratch + gate_scratch(experts));
  int64_t not_finite = 0;
  for (int64_t token = first; token < end; token += kGateTokens) {
    const int64_t tokens = std::min<int64_t>(kGateTokens, end - token);
    const char* source = logits.as<const char>() + token * row_bytes;
    const float* rows = reinterpret_cast<const float*>(source);
    if (logits.dtype != DType::f32) {
      kernels.to_f32(logits.dtype, source, tokens * experts, converted);
      rows = converted;
    }
    const int64_t slot = token * rule.top_k;
    not_finite += kernels.gate(rows, static_cast<int32_t>(tokens), static_cast<int32_t>(experts), rule, selection_bias,
                               ids + slot, weights + slot, scratch);
  }
  return not_finite;
}

}  // namespace moe::cpu
