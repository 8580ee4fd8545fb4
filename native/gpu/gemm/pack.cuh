// Rows brought into another layout: expert weights into the packed one, activations into another float type or to a row
// length that vector accesses need.
#pragma once

#include "core/tensor_view.h"
#include "gpu/runtime/device_traits.h"

#include <ptx/device.cuh>

namespace moe::MOE_GPU_NAMESPACE {

struct PackedRows {
  void* data;
  DType dtype;
  int64_t rows;
  int64_t pitch;  // elements; those behind the source's columns become zeros
};

// Row r of `packed` is row r of `source`; where `up` is present, of source's dtype, the rows of the two alternate as in
// tile/interleave.h. Rows that a matrix does not have become zeros.
Status launch_pack_rows(const MatrixView& source, const MatrixView& up, const PackedRows& packed,
                        const gpu::DeviceTraits& traits, Stream stream);

}  // namespace moe::MOE_GPU_NAMESPACE
