#include "gpu/operators.h"

#include <ptx/launch.cuh>

#include "core/random.h"
#include "gpu/plan/plan.h"
#include "gpu/tile/dispatch.h"
#include "gpu/tile/element.cuh"

namespace moe::MOE_GPU_NAMESPACE {
namespace {

struct RandomArguments {
  uint64_t seed;
  int64_t offset;
  float* values;
  int64_t size;
  bool aligned;
};

// A thread draws the numbers of one counter; the first and the last counter may have only a part in the values.
template <Distribution kDistribution>
__global__ void __launch_bounds__(gpu::kRowThreads) random_kernel(const RandomArguments a) {
  const int64_t first = a.offset / kRandomLanes;
  const int64_t last = (a.offset + a.size - 1) / kRandomLanes;
  const int64_t threads = static_cast<int64_t>(gridDim.x) * blockDim.x;
  for (int64_t counter = first + blockIdx.x * static_cast<int64_t>(blockDim.x) + threadIdx.x; counter <= last;
       counter += threads) {
    float numbers[kRandomLanes];
    if constexpr (kDistribution == Distribution::normal) {
      draw_normal(a.seed, static_cast<uint64_t>(counter), numbers);
    } else {
      draw_uniform(a.seed, static_cast<uint64_t>(counter), numbers);
    }
    const int64_t index = counter * kRandomLanes - a.offset;
    if (index >= 0) {
      store_up_to(a.values + index, a.size - index, a.aligned, numbers);
      continue;
    }
#pragma unroll
    for (int lane = 0; lane < kRandomLanes; ++lane) {
      if (index + lane >= 0 && index + lane < a.size) a.values[index + lane] = numbers[lane];
    }
  }
}

struct JitterArguments {
  const void* x;
  void* y;
  uint64_t seed;
  float epsilon;
  int64_t size;
  bool aligned;
};

// A thread multiplies the elements of one counter.
template <class T>
__global__ void __launch_bounds__(gpu::kRowThreads) jitter_kernel(const JitterArguments a) {
  const int64_t threads = static_cast<int64_t>(gridDim.x) * blockDim.x;
  for (int64_t counter = blockIdx.x * static_cast<int64_t>(blockDim.x) + threadIdx.x; counter * kRandomLanes < a.size;
       counter += threads) {
    const int64_t index = counter * kRandomLanes;
    float values[kRandomLanes], numbers[kRandomLanes];
    load_up_to(static_cast<const T*>(a.x) + index, a.size - index, a.aligned, values);
    draw_uniform(a.seed, static_cast<uint64_t>(counter), numbers);
#pragma unroll
    for (int lane = 0; lane < kRandomLanes; ++lane) values[lane] *= jitter_factor(numbers[lane], a.epsilon);
    store_up_to(static_cast<T*>(a.y) + index, a.size - index, a.aligned, values);
  }
}

template <Distribution kDistribution>
Status launch_distribution(const RandomArguments& arguments, unsigned grid, Stream stream) {
  return launch("random", random_kernel<kDistribution>, dim3(grid), dim3(gpu::kRowThreads), 0, stream, arguments);
}

}  // namespace

Status run(Context& context, const Random& p) {
  const Stream stream = context.stream();
  if (p.values.size() == 0) return {};
  const bool aligned =
      vectors_aligned<float, kRandomLanes>(p.values.data, kRandomLanes) && p.offset % kRandomLanes == 0;
  const RandomArguments arguments{p.seed, p.offset, p.values.as<float>(), p.values.size(), aligned};
  // One more than the whole counters in the values, as these may begin in the middle of one.
  const unsigned grid = gpu::element_grid(arguments.size / kRandomLanes + 2, context.traits());
  return p.distribution == Distribution::normal ? launch_distribution<Distribution::normal>(arguments, grid, stream)
                                                : launch_distribution<Distribution::uniform>(arguments, grid, stream);
}

Status run(Context& context, const Jitter& p) {
  JitterArguments arguments{p.x.data, p.y.data, p.seed, p.epsilon, p.x.size(), false};
  const unsigned grid = gpu::element_grid((arguments.size + kRandomLanes - 1) / kRandomLanes, context.traits());
  return gpu::dispatch_float(p.x.dtype, [&](auto type) {
    using T = typename decltype(type)::type;
    arguments.aligned = vectors_aligned<T, kRandomLanes>(p.x.data, kRandomLanes) &&
                        vectors_aligned<T, kRandomLanes>(p.y.data, kRandomLanes);
    return launch("jitter", jitter_kernel<T>, dim3(grid), dim3(gpu::kRowThreads), 0, context.stream(), arguments);
  });
}

}  // namespace moe::MOE_GPU_NAMESPACE
