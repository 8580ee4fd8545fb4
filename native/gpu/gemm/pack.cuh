// Repacks rows: expert weights into the packed layout, activations into another float type or a row length that vector
// accesses need.
#pragma once

#include "core/formats/weight_view.h"
#include "core/operators/experts.h"
#include "core/status.h"
#include "gpu/gemm/weight_layout.h"
#include "gpu/runtime/device_traits.h"
#include "gpu/runtime/runtime.h"

#include <ptx/device.cuh>

namespace moe::MOE_GPU_NAMESPACE {

struct PackedRows {
  void* data;
  DType dtype;
  int64_t rows;
  int64_t pitch;  // in elements; those after the source's columns become zeros
};

// Row r of `packed` is row r of `source`. If `up` is present (of source's dtype), the rows of the two alternate as in
// tile/interleave.h. Rows that a matrix lacks become zeros. Elements of the same dtype keep their bits.
Status launch_pack_rows(const MatrixView& source, const MatrixView& up, const PackedRows& packed,
                        const gpu::DeviceTraits& traits, Stream stream);

// The same for weights of any format: dequantised, in the order of their inputs, rounded to packed.dtype.
Status launch_pack_weight(const WeightView& source, const WeightView& up, const PackedRows& packed,
                          const gpu::DeviceTraits& traits, Stream stream);

// One expert's matrix to pack: a weight, or gate and up if the product is gated.
struct PackExpert {
  const WeightView& weight;
  const WeightView& up;
  const ExpertProduct& product;
  const gpu::PackedMatrix& packed;
  void* data;
};

// For the packers of quantised formats: UNSUPPORTED_DTYPE unless the weights have that same format.
Status check_same_format(const PackExpert& pack);

// Packs weights of any format into the layout of plain ones.
Status pack_plain(const PackExpert& pack, Runtime& runtime);

// Packs weights of a quantised format into its layout (gemm/quantized_layout.h). INVALID_ARGUMENT for NaN among codes
// of e4m3 and scales of e4m3 or e8m0: packing such formats waits for the device.
Status pack_quantized(const PackExpert& pack, Runtime& runtime);

}  // namespace moe::MOE_GPU_NAMESPACE
