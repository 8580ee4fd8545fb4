// Noisy top-k gating: logits and the estimate of the experts' load.
#pragma once

#include "core/operators/noise.h"
#include "cpu/runtime/context.h"

namespace moe::cpu {

void add_noise(const Context& context, const NoisyLogits& p);
Status estimate_load(Context& context, const ExpertLoad& p);

}  // namespace moe::cpu
