// The softmax of every row of a matrix.
#pragma once

#include "core/tensor_view.h"
#include "gpu/runtime/device_traits.h"

#include <ptx/device.cuh>

namespace moe::MOE_GPU_NAMESPACE {

// In place on rows [R, H] f32. NaN counts as -Infinity; a row with nothing else becomes zeros.
Status launch_softmax_rows(const TensorView& rows, const gpu::DeviceTraits& traits, Stream stream);

}  // namespace moe::MOE_GPU_NAMESPACE
