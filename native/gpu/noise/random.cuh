// Random numbers by counter.
#pragma once

#include "core/operators/noise.h"
#include "core/status.h"
#include "gpu/runtime/device_traits.h"

#include <ptx/device.cuh>

namespace moe::MOE_GPU_NAMESPACE {

Status launch_random(const Random& p, const gpu::DeviceTraits& traits, Stream stream);
Status launch_jitter(const Jitter& p, const gpu::DeviceTraits& traits, Stream stream);

}  // namespace moe::MOE_GPU_NAMESPACE
