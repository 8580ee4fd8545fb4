#include <ptx/launch.cuh>

#include "core/operators/norms.h"
#include "gpu/operators.h"
#include "gpu/plan/plan.h"
#include "gpu/tile/loops.cuh"
#include "gpu/tile/reduce.cuh"
#include "gpu/tile/tensor_rows.cuh"

namespace moe::MOE_GPU_NAMESPACE {
namespace {

// Neighbouring columns of a thread. Its next ones are those of the block's next round.
constexpr int kColumns = 4;

using Rows = TensorRows<kColumns>;

struct Arguments {
  Rows x, weight, y;
  float epsilon, offset;
  int64_t rows, hidden;
};

struct GradientArguments {
  Rows x, weight, dy, residual, dx, terms;
  float epsilon, offset;
  int64_t rows, hidden;
};

// Calls use(column, those left) for the first of every kColumns columns of this thread.
template <class Use>
__device__ __forceinline__ void for_each_column(int64_t hidden, Use&& use) {
  for (int64_t column = threadIdx.x * kColumns; column < hidden;
       column += static_cast<int64_t>(blockDim.x) * kColumns) {
    use(column, hidden - column);
  }
}

// What brings a row to a root mean square of 1. All threads of the block call it together.
__device__ __forceinline__ float row_scale(const Rows& x, int64_t row, float epsilon) {
  float sum = 0.0f;
  for_each_column(x.pitch, [&](int64_t column, int64_t count) {
    float values[kColumns];
    x.load(row, column, count, values);
#pragma unroll
    for (int i = 0; i < kColumns; ++i) sum = fmaf(values[i], values[i], sum);
  });
  return 1.0f / sqrtf(block_reduce(sum, Sum{}) / static_cast<float>(x.pitch) + epsilon);
}

// One block per row.
MOE_KERNEL(rms_norm_kernel, (gpu::kWideRowThreads), const Arguments a) {
  for (int64_t row = blockIdx.x; row < a.rows; row += gridDim.x) {
    const float scale = row_scale(a.x, row, a.epsilon);
    for_each_column(a.hidden, [&](int64_t column, int64_t count) {
      float values[kColumns], factors[kColumns];
      a.x.load(row, column, count, values);
      a.weight.load(0, column, count, factors);
#pragma unroll
      for (int i = 0; i < kColumns; ++i) values[i] = values[i] * scale * (factors[i] + a.offset);
      a.y.store(row, column, count, values);
    });
  }
}

// With x' = x * scale and g = dy * factors: terms = dy * x', and dx = scale * (g - x' * mean(g * x')). One block per
// row.
MOE_KERNEL(rms_norm_backward_kernel, (gpu::kWideRowThreads), const GradientArguments a) {
  for (int64_t row = blockIdx.x; row < a.rows; row += gridDim.x) {
    const float scale = row_scale(a.x, row, a.epsilon);
    float sum = 0.0f;
    for_each_column(a.hidden, [&](int64_t column, int64_t count) {
      float x[kColumns], dy[kColumns], factors[kColumns];
      a.x.load(row, column, count, x);
      a.dy.load(row, column, count, dy);
      a.weight.load(0, column, count, factors);
#pragma unroll
      for (int i = 0; i < kColumns; ++i) {
        x[i] *= scale;
        sum = fmaf(dy[i] * (factors[i] + a.offset), x[i], sum);
        x[i] *= dy[i];
      }
      if (a.terms.data != nullptr) a.terms.store(row, column, count, x);
    });
    if (a.dx.data == nullptr) continue;
    const float mean = block_reduce(sum, Sum{}) / static_cast<float>(a.hidden);
    for_each_column(a.hidden, [&](int64_t column, int64_t count) {
      float x[kColumns], dy[kColumns], factors[kColumns], residual[kColumns] = {};
      a.x.load(row, column, count, x);
      a.dy.load(row, column, count, dy);
      a.weight.load(0, column, count, factors);
      if (a.residual.data != nullptr) a.residual.load(row, column, count, residual);
#pragma unroll
      for (int i = 0; i < kColumns; ++i) {
        const float product = dy[i] * (factors[i] + a.offset);
        x[i] = scale * (product - x[i] * scale * mean) + residual[i];
      }
      a.dx.store(row, column, count, x);
    });
  }
}

template <class Kernel, class Arguments>
Status launch_rows(const char* name, Kernel* kernel, const Arguments& arguments, Context& context) {
  const gpu::DeviceTraits& traits = context.traits();
  return launch(name, kernel, dim3(gpu::wide_row_grid(arguments.rows, traits)),
                dim3(gpu::wide_row_threads(arguments.hidden, kColumns, traits)), 0, context.stream(), arguments);
}

}  // namespace

Status run(Context& context, const RmsNorm& p) {
  const int64_t rows = p.x.shape[0], hidden = p.x.shape[1];
  const Arguments arguments{.x = {p.x, hidden},
                            .weight = {p.weight, hidden},
                            .y = {p.y, hidden},
                            .epsilon = p.epsilon,
                            .offset = p.offset,
                            .rows = rows,
                            .hidden = hidden};
  return launch_rows("rms_norm", rms_norm_kernel, arguments, context);
}

Status run(Context& context, const RmsNormBackward& p) {
  const int64_t rows = p.x.shape[0], hidden = p.x.shape[1];
  const GradientArguments arguments{.x = {p.x, hidden},
                                    .weight = {p.weight, hidden},
                                    .dy = {p.dy, hidden},
                                    .residual = {p.residual, hidden},
                                    .dx = {p.dx, hidden},
                                    .terms = {p.terms, hidden},
                                    .epsilon = p.epsilon,
                                    .offset = p.offset,
                                    .rows = rows,
                                    .hidden = hidden};
  return launch_rows("rms_norm_backward", rms_norm_backward_kernel, arguments, context);
}

}  // namespace moe::MOE_GPU_NAMESPACE
