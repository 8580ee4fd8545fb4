// Router projection: logits = x weight^T + bias.
#pragma once

#include "core/operators/routing.h"
#include "gpu/runtime/device_traits.h"

#include <ptx/device.cuh>

namespace moe::MOE_GPU_NAMESPACE {

Status launch_router_projection(const RouterProjection& p, const gpu::DeviceTraits& traits, Stream stream);

}  // namespace moe::MOE_GPU_NAMESPACE
