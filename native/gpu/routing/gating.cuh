// Gating: turns router logits into each token's k experts and their weights.
#pragma once

#include "core/operators/routing.h"
#include "gpu/runtime/device_traits.h"

#include <ptx/device.cuh>

namespace moe::MOE_GPU_NAMESPACE {

// Adds the number of rows without a finite logit to `non_finite_rows`, a counter in device memory.
Status launch_gating(const Gating& p, unsigned long long* non_finite_rows, const gpu::DeviceTraits& traits,
                     Stream stream);

}  // namespace moe::MOE_GPU_NAMESPACE
