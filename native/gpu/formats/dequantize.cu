#include "core/formats/dequantize.h"

#include <ptx/launch.cuh>

#include "gpu/gemm/pack.cuh"
#include "gpu/operators.h"
#include "gpu/plan/plan.h"
#include "gpu/tile/element.cuh"
#include "gpu/tile/loops.cuh"
#include "gpu/tile/reduce.cuh"

namespace moe::MOE_GPU_NAMESPACE {
namespace {

struct Arguments {
  MatrixView values;
  WeightView weight;
  WeightFormat format;  // the weight's own, in memory that the kernel can read
  SquareSums* sums;     // of each row
  float* error;
};

// The sums of all threads of a block.
__device__ __forceinline__ SquareSums block_sum(const SquareSums& sums) {
  return {block_reduce(sums.errors, Sum{}), block_reduce(sums.elements, Sum{})};
}

// One block per row.
MOE_KERNEL(row_errors_kernel, (gpu::kRowThreads), const Arguments a) {
  for (int64_t row = blockIdx.x; row < a.weight.rows; row += gridDim.x) {
    SquareSums sums;
    for (int64_t column = threadIdx.x; column < a.weight.columns; column += blockDim.x) {
      const int64_t input = input_of(a.weight, column);
      if (input < 0 || input >= a.weight.columns) continue;
      const float element =
          load_as_float(a.values.data, a.values.dtype, row * a.values.row_stride + input * a.values.column_stride);
      sums.add(element, dequantize(a.format, a.weight, row, column));
    }
    sums = block_sum(sums);
    if (threadIdx.x == 0) a.sums[row] = sums;
  }
}

MOE_KERNEL(error_kernel, (gpu::kRowThreads), const Arguments a) {
  SquareSums sums;
  for (int64_t row = threadIdx.x; row < a.weight.rows; row += blockDim.x) sums.add(a.sums[row]);
  sums = block_sum(sums);
  if (threadIdx.x == 0) *a.error = sums.relative();
}

}  // namespace

Status run(Context& context, const Dequantize& p) {
  const PackedRows rows{
      .data = p.values.data, .dtype = p.values.dtype, .rows = p.weight.rows, .pitch = p.weight.columns};
  return launch_pack_weight(p.weight, {}, rows, context.traits(), context.stream());
}

Status run(Context& context, const QuantizationError& p) {
  Scratch scratch(*context.runtime);
  MOE_TRY(scratch.reserve(static_cast<size_t>(p.weight.rows) * sizeof(SquareSums)));
  const Arguments arguments{.values = p.values,
                            .weight = p.weight,
                            .format = *p.weight.format,
                            .sums = reinterpret_cast<SquareSums*>(scratch.at(0)),
                            .error = p.error.as<float>()};
  const dim3 block(gpu::kRowThreads);
  const dim3 grid(gpu::row_grid(p.weight.rows * (gpu::kRowThreads / 32), context.traits()));
  MOE_TRY(launch("row_errors", row_errors_kernel, grid, block, 0, context.stream(), arguments));
  return launch("error", error_kernel, dim3(1), block, 0, context.stream(), arguments);
}

}  // namespace moe::MOE_GPU_NAMESPACE
