// Gating and top-k over rows of logits.
#pragma once

#include "cpu/context.h"

namespace moe::cpu {

// Routes tokens first .. end of logits [T, E] (any float dtype), ids and weights [T, k]. `scratch` holds
// gate_scratch(experts) values. Returns how many rows had no finite logit.
int64_t gate_rows(const Kernels& kernels, const TensorView& logits, const GatingRule& rule, int32_t* ids,
                  float* weights, int64_t first, int64_t end, float* scratch);

constexpr int64_t gate_scratch(int64_t experts) { return 3 * gating_scratch(experts); }

}  // namespace moe::cpu
