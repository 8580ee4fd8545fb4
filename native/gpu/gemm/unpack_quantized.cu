#include <ptx/launch.cuh>

#include "gpu/gemm/quantized_weights.cuh"
#include "gpu/gemm/unpack.cuh"
#include "gpu/plan/plan.h"
#include "gpu/tile/interleave.h"
#include "gpu/tile/loops.cuh"

namespace moe::MOE_GPU_NAMESPACE {
namespace {

struct Arguments {
  GemmArguments weights;  // what QuantizedWeights reads of it
  const float* scales;    // of the inputs, [columns] each; or null
  const int* order;
  bool gated, up;
  float* target;
  int64_t rows, columns;
};

// One warp per row, a run of columns for each lane.
MOE_KERNEL(unpack_quantized_kernel, (gpu::kRowThreads, 8), const Arguments a) {
  QuantizedWeights::prepare(a.weights);
  for_each_row(a.rows, [&](int64_t row) {
    float* target = a.target + row * a.columns;
    if (a.order != nullptr) {
      // What the order does not name stays zero, and a negative number is none.
      for (int64_t k = threadIdx.x % 32; k < a.columns; k += 32) target[k] = 0.0f;
      __syncwarp();
    }
    const auto packed = QuantizedWeights::row(a.weights, 0, gpu::packed_row(row, a.gated, a.up));
    for (int64_t k = threadIdx.x % 32 * kFmaRun; k < a.columns; k += 32 * kFmaRun) {
      QuantizedWeights::Run run;
      float values[kFmaRun];
      QuantizedWeights::load(packed, static_cast<int>(k), run);
      QuantizedWeights::convert(packed, run, values);
      const int64_t count = a.columns - k;
#pragma unroll
      for (int i = 0; i < kFmaRun; ++i) {
        if (i >= count) continue;
        const uint64_t column = a.order == nullptr ? k + i : a.order[k + i];
        if (a.scales != nullptr) values[i] *= a.scales[k + i];
        if (column < static_cast<uint64_t>(a.columns)) target[column] = values[i];
      }
    }
  });
}

}  // namespace

Status launch_unpack_quantized(const UnpackQuantized& unpack, const TensorView& target, const gpu::DeviceTraits& traits,
                               Stream stream) {
  const ExpertProduct& product = unpack.product;
  const int64_t rows = product.outputs();
  if (rows == 0 || product.columns == 0) return {};
  Arguments arguments{.weights = {},
                      .scales = unpack.input_scales,
                      .order = unpack.input_order,
                      .gated = product.gated(),
                      .up = unpack.up,
                      .target = target.as<float>(),
                      .rows = rows,
                      .columns = product.columns};
  arguments.weights.weight = unpack.matrix;
  arguments.weights.packed = unpack.packed;
  arguments.weights.format = *product.format;
  return launch("unpack_quantized", unpack_quantized_kernel, dim3(gpu::row_grid(rows, traits)), dim3(gpu::kRowThreads),
                0, stream, arguments);
}

}  // namespace moe::MOE_GPU_NAMESPACE
