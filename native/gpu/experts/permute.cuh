// Permute and unpermute: rows of one matrix gathered by index.
#pragma once

#include "core/tensor_view.h"
#include "gpu/runtime/device_traits.h"
#include "gpu/runtime/id_error.h"

#include <ptx/device.cuh>

namespace moe::MOE_GPU_NAMESPACE {

// Row i of `result` is row indices[i] of `source`, or zeros if that is -1.
Status launch_gather_rows(const TensorView& source, const TensorView& indices, const TensorView& result,
                          gpu::IdError* error, const gpu::DeviceTraits& traits, Stream stream);

}  // namespace moe::MOE_GPU_NAMESPACE
