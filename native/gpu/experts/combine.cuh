// Combine: every token's weighted sum of its experts' outputs.
#pragma once

#include "core/operators/experts.h"
#include "gpu/runtime/device_traits.h"
#include "gpu/runtime/id_error.h"

#include <ptx/device.cuh>

namespace moe::MOE_GPU_NAMESPACE {

// If the weights are absent, all are 1.
Status launch_combine(const Combine& p, gpu::IdError* error, const gpu::DeviceTraits& traits, Stream stream);

}  // namespace moe::MOE_GPU_NAMESPACE
