// Rows brought into another layout: expert weights into the packed one, activations into another float type or to a row
// length that vector accesses need.
#pragma once

#include "core/formats/weight_view.h"
#include "core/operators/experts.h"
#include "core/status.h"
#include "gpu/gemm/weight_layout.h"
#include "gpu/runtime/device_traits.h"

#include <ptx/device.cuh>

namespace moe::MOE_GPU_NAMESPACE {

struct PackedRows {
  void* data;
  DType dtype;
  int64_t rows;
  int64_t pitch;  // elements; those after the source's columns become zeros
};

// Row r of `packed` is row r of `source`; where `up` is present, of source's dtype, the rows of the two alternate as in
// tile/interleave.h. Rows that a matrix does not have become zeros. Elements of the same dtype keep their bits.
Status launch_pack_rows(const MatrixView& source, const MatrixView& up, const PackedRows& packed,
                        const gpu::DeviceTraits& traits, Stream stream);

// The same from weights of any formats: what they mean, in the order of their inputs, rounded to packed.dtype.
Status launch_pack_weight(const WeightView& source, const WeightView& up, const PackedRows& packed,
                          const gpu::DeviceTraits& traits, Stream stream);

// One expert's matrix to be packed: a weight, or gate and up where the product is gated.
struct PackExpert {
  const WeightView& weight;
  const WeightView& up;
  const ExpertProduct& product;
  const gpu::PackedMatrix& packed;
  void* data;
};

// For the packers of quantised formats, which take weights of the same format only, without input scales or orders:
// else UNSUPPORTED_DTYPE.
Status check_same_format(const PackExpert& pack);

// Packs weights of any format into the layout of plain ones.
Status pack_plain(const PackExpert& pack, const gpu::DeviceTraits& traits, Stream stream);

}  // namespace moe::MOE_GPU_NAMESPACE
