// The codes and scales of packed weights, as they were before they were packed.
#pragma once

#include "core/formats/quantized_field.h"
#include "gpu/gemm/weight_layout.h"
#include "gpu/runtime/runtime.h"

namespace moe::MOE_GPU_NAMESPACE {

// One expert's matrix in the layout of gemm/quantized_layout.h.
struct UnpackField {
  const ExpertProduct& product;
  const gpu::PackedMatrix& packed;
  const void* matrix;
  bool up;  // of a gated product: not the gate
};

// Target becomes the codes or a level of scales or offsets.
Status launch_unpack_field(const UnpackField& unpack, QuantizedField field, const TensorView& target,
                           const gpu::DeviceTraits& traits, Stream stream);

}  // namespace moe::MOE_GPU_NAMESPACE
