// Steps of optimisers: one pass over memory, one thread for each parameter at a time.
#include "core/operators/optimizers.h"

#include <ptx/launch.cuh>

#include "gpu/operators.h"
#include "gpu/plan/plan.h"
#include "gpu/tile/dispatch.h"
#include "gpu/tile/element.cuh"
#include "gpu/tile/loops.cuh"
#include "gpu/tile/reduce.cuh"

namespace moe::MOE_GPU_NAMESPACE {
namespace {

// One warp per block of values, whose lanes add in turns.
MOE_KERNEL(block_squares_kernel, (gpu::kRowThreads), const float* values, int64_t count, int64_t blocks, double* sums) {
  const int lane = static_cast<int>(threadIdx.x % 32);
  for_each_row(blocks, [&](int64_t block) {
    const int64_t first = block * kSquaresBlock, end = min(count, first + kSquaresBlock);
    double sum = 0;
    for (int64_t i = first + lane; i < end; i += 32) {
      sum += static_cast<double>(values[i]) * static_cast<double>(values[i]);
    }
    sum = warp_reduce(sum, Sum());
    if (lane == 0) sums[block] = sum;
  });
}

// One warp, so that the order of the sums is always the same.
MOE_KERNEL(total_squares_kernel, (32), const double* sums, int64_t blocks, float* total) {
  // Sums that a lane loads together, without branches, so that it waits once for all of them.
  constexpr int kTogether = 32;
  double sum = 0;
  for (int64_t first = threadIdx.x; first < blocks; first += 32 * kTogether) {
    double own[kTogether];
#pragma unroll
    for (int i = 0; i < kTogether; ++i) {
      const int64_t block = first + 32 * i;
      own[i] = sums[block < blocks ? block : blocks - 1];
    }
#pragma unroll
    for (int i = 0; i < kTogether; ++i) {
      if (first + 32 * i < blocks) sum += own[i];
    }
  }
  sum = warp_reduce(sum, Sum());
  if (threadIdx.x == 0) *total = static_cast<float>(static_cast<double>(*total) + sum);
}

struct Tensors {
  float* parameter;
  const float* gradient;
  float* mean;
  float* square;
  float* velocity;
  const float* squared_norm;
  void* copy;
  int64_t count;
  double max_norm;
};

template <class Copy>
__device__ __forceinline__ void store_copy(const Tensors& t, int64_t i, float value) {
  if (t.copy != nullptr) static_cast<Copy*>(t.copy)[i] = from_float<Copy>(value);
}

template <class Copy>
MOE_KERNEL(adam_w_kernel, (gpu::kRowThreads), const Tensors t, const AdamWRule rule) {
  const float factor = clip_factor(t.squared_norm, t.max_norm);
  for_each_item(t.count, [&](int64_t i) {
    float parameter = t.parameter[i], mean = t.mean[i], square = t.square[i];
    rule.apply(factor * t.gradient[i], parameter, mean, square);
    t.parameter[i] = parameter;
    t.mean[i] = mean;
    t.square[i] = square;
    store_copy<Copy>(t, i, parameter);
  });
}

template <class Copy>
MOE_KERNEL(sgd_kernel, (gpu::kRowThreads), const Tensors t, const SgdRule rule) {
  const float factor = clip_factor(t.squared_norm, t.max_norm);
  for_each_item(t.count, [&](int64_t i) {
    float parameter = t.parameter[i];
    rule.apply(factor * t.gradient[i], parameter, t.velocity == nullptr ? nullptr : t.velocity + i);
    t.parameter[i] = parameter;
    store_copy<Copy>(t, i, parameter);
  });
}

// use(a value of the copy's type); float32 if there is none.
template <class Use>
Status with_copy(const TensorView& copy, Use&& use) {
  return gpu::dispatch_float(copy.absent() ? DType::f32 : copy.dtype, use);
}

dim3 grid_of(Context& context, int64_t count) { return dim3(gpu::row_grid((count + 31) / 32, context.traits())); }

}  // namespace

Status run(Context& context, const SumOfSquares& p) {
  const int64_t count = p.values.shape[0], blocks = (count + kSquaresBlock - 1) / kSquaresBlock;
  const Stream stream = context.stream();
  Scratch scratch(*context.runtime);
  MOE_TRY(scratch.reserve(static_cast<size_t>(blocks) * sizeof(double)));
  auto* sums = reinterpret_cast<double*>(scratch.at(0));
  if (blocks > 0) {
    MOE_TRY(launch("block_squares", block_squares_kernel, dim3(gpu::row_grid(blocks, context.traits())),
                   dim3(gpu::kRowThreads), 0, stream, p.values.as<const float>(), count, blocks, sums));
  }
  return launch("total_squares", total_squares_kernel, dim3(1), dim3(32), 0, stream, static_cast<const double*>(sums),
                blocks, p.total.as<float>());
}

Status run(Context& context, const AdamW& p) {
  const Tensors tensors{.parameter = p.parameter.as<float>(),
                        .gradient = p.gradient.as<const float>(),
                        .mean = p.mean.as<float>(),
                        .square = p.square.as<float>(),
                        .velocity = nullptr,
                        .squared_norm = p.squared_norm.as<const float>(),
                        .copy = p.copy.data,
                        .count = p.parameter.shape[0],
                        .max_norm = p.max_norm};
  const AdamWRule rule(p);
  return with_copy(p.copy, [&](auto type) {
    return launch("adam_w", adam_w_kernel<typename decltype(type)::type>, grid_of(context, tensors.count),
                  dim3(gpu::kRowThreads), 0, context.stream(), tensors, rule);
  });
}

Status run(Context& context, const Sgd& p) {
  const Tensors tensors{.parameter = p.parameter.as<float>(),
                        .gradient = p.gradient.as<const float>(),
                        .mean = nullptr,
                        .square = nullptr,
                        .velocity = p.has_velocity() ? p.velocity.as<float>() : nullptr,
                        .squared_norm = p.squared_norm.as<const float>(),
                        .copy = p.copy.data,
                        .count = p.parameter.shape[0],
                        .max_norm = p.max_norm};
  const SgdRule rule(p);
  return with_copy(p.copy, [&](auto type) {
    return launch("sgd", sgd_kernel<typename decltype(type)::type>, grid_of(context, tensors.count),
                  dim3(gpu::kRowThreads), 0, context.stream(), tensors, rule);
  });
}

}  // namespace moe::MOE_GPU_NAMESPACE
