// Copies packed weights back to rows.
#pragma once

#include "gpu/gemm/pack.cuh"

namespace moe::MOE_GPU_NAMESPACE {

// Row r of target [rows, columns], of the packed rows' dtype or f32, becomes the packed row that holds row r of the
// weight or, of a gated product, of gate or up.
Status launch_unpack_rows(const PackedRows& packed, bool gated, bool up, const TensorView& target,
                          const gpu::DeviceTraits& traits, Stream stream);

// One expert's matrix of a quantised format.
struct UnpackQuantized {
  const ExpertProduct& product;
  const gpu::PackedMatrix& packed;
  const void* matrix;
  const float* input_scales;  // of the expert, or null
  const int* input_order;
  bool up;  // of a gated product: not the gate
};

// Target [rows, columns] f32 becomes what products multiply x by: dequantised, with the scales of the inputs, in their
// order.
Status launch_unpack_quantized(const UnpackQuantized& unpack, const TensorView& target, const gpu::DeviceTraits& traits,
                               Stream stream);

}  // namespace moe::MOE_GPU_NAMESPACE
