#include "cpu/gating.h"

namespace moe::cpu {

int64_t gate_rows(const Kernels& kernels, const TensorView& logits, const GatingRule& rule, const float* selection_bias,
                  int32_t* ids, float* weights, int64_t first, int64_t end, int32_t* scratch) {
  const int64_t experts = logits.shape[1];
  const int64_t row_bytes = experts * static_cast<int64_t>(info(logits.dtype).bytes);
  float* converted = reinterpret_cast<float*>(scratch + gate_scratch(experts));
  int64_t not_finite = 0;
  for (int64_t token = first; token < end; ++token) {
    const char* source = logits.as<const char>() + token * row_bytes;
    const float* row = reinterpret_cast<const float*>(source);
    if (logits.dtype != DType::f32) {
      kernels.to_f32(logits.dtype, source, experts, converted);
      row = converted;
    }
    const int64_t slot = token * rule.top_k;
    const bool finite =
        kernels.gate(row, static_cast<int32_t>(experts), rule, selection_bias, ids + slot, weights + slot, scratch);
    not_finite += finite ? 0 : 1;
  }
  return not_finite;
}

}  // namespace moe::cpu
