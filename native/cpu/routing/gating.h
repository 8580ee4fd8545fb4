// Gating and top-k over rows of logits.
#pragma once

#include "cpu/runtime/context.h"

namespace moe::cpu {

// Routes tokens first .. end - 1 of logits [T, E] (any float dtype) to ids and weights [T, k]; the selection bias [E]
// may be null. `scratch` holds gating_scratch(experts) values. Returns how many rows had no finite logit.
int64_t gate_rows(const Kernels& kernels, const TensorView& logits, const GatingRule& rule, const float* selection_bias,
                  int32_t* ids, float* weights, int64_t first, int64_t end, int32_t* scratch);

// The same weights for ids that are given. An id out of range is no choice.
int64_t weigh_rows(const Kernels& kernels, const TensorView& logits, const GatingRule& rule, const int32_t* ids,
                   float* weights, int64_t first, int64_t end, int32_t* scratch);

// The kernel's scratch, plus logits converted to float32.
constexpr int64_t gating_scratch(int64_t experts) { return gate_scratch(experts) + kGateTokens * experts; }

}  // namespace moe::cpu
