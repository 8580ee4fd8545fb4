// Writes every token's slots in a layer with shared experts.
#pragma once

#include "core/operators/shared_slots.h"
#include "gpu/runtime/device_traits.h"
#include "gpu/runtime/id_error.h"

#include <ptx/device.cuh>

namespace moe::MOE_GPU_NAMESPACE {

// An id that is none of the E experts is reported and becomes -1.
Status launch_shared_slots(const SharedSlots& p, gpu::IdError* error, const gpu::DeviceTraits& traits, Stream stream);

}  // namespace moe::MOE_GPU_NAMESPACE
