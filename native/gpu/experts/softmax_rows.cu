#include "gpu/experts/softmax_rows.cuh"

#include <cmath>

#include <ptx/launch.cuh>

#include "core/scores.h"
#include "gpu/plan/plan.h"
#include "gpu/tile/loops.cuh"
#include "gpu/tile/reduce.cuh"

namespace moe::MOE_GPU_NAMESPACE {
namespace {

// One warp per row. It reads the row three times, and the order of the sum depends on the row's length alone.
MOE_KERNEL(softmax_rows_kernel, (gpu::kRowThreads), float* rows, int64_t count, int64_t columns) {
  const int lane = static_cast<int>(threadIdx.x % 32);
  for_each_row(count, [&](int64_t row) {
    float* values = rows + row * columns;
    float max = -INFINITY;
    for (int64_t i = lane; i < columns; i += 32) max = fmaxf(max, values[i]);
    max = warp_max(max);
    float sum = 0.0f;
    for (int64_t i = lane; i < columns; i += 32) sum += exponential(values[i], max);
    sum = warp_sum(sum);
    const float scale = sum > 0.0f ? 1.0f / sum : 0.0f;
    for (int64_t i = lane; i < columns; i += 32) values[i] = scale * exponential(values[i], max);
  });
}

}  // namespace

Status launch_softmax_rows(const TensorView& rows, const gpu::DeviceTraits& traits, Stream stream) {
  return launch("softmax_rows", softmax_rows_kernel, dim3(gpu::row_grid(rows.shape[0], traits)), dim3(gpu::kRowThreads),
                0, stream, rows.as<float>(), rows.shape[0], rows.shape[1]);
}

}  // namespace moe::MOE_GPU_NAMESPACE
