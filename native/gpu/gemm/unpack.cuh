// Copies packed weights back to rows.
#pragma once

#include "gpu/gemm/pack.cuh"

namespace moe::MOE_GPU_NAMESPACE {

// Row r of target [rows, columns] becomes the packed row that holds row r of the weight or, of a gated product, of gate
// or up.
Status launch_unpack_rows(const PackedRows& packed, bool gated, bool up, const TensorView& target,
                          const gpu::DeviceTraits& traits, Stream stream);

}  // namespace moe::MOE_GPU_NAMESPACE
