#include "gpu/operators.h"

#include <ptx/launch.cuh>

#include "core/random.h"
#include "gpu/plan/plan.h"
#include "gpu/tile/dispatch.h"
#include "gpu/tile/element.cuh"
#include "gpu/tile/loops.cuh"

namespace moe::MOE_GPU_NAMESPACE {
namespace {

struct RandomArguments {
  uint64_t seed;
  int64_t offset;
  float* values;
  int64_t size;
  bool aligned;
};

// A thread draws the numbers of one counter. Only part of the first and the last counter's numbers may be needed.
template <Distribution kDistribution>
MOE_KERNEL(random_kernel, (gpu::kRowThreads), const RandomArguments a) {
  const int64_t first = a.offset / kRandomLanes;
  const int64_t last = (a.offset + a.size - 1) / kRandomLanes;
  for_each_item(first, last + 1, [&](int64_t counter) {
    float numbers[kRandomLanes];
    if constexpr (kDistribution == Distribution::normal) {
      draw_normal(a.seed, static_cast<uint64_t>(counter), numbers);
    } else {
      draw_uniform(a.seed, static_cast<uint64_t>(counter), numbers);
    }
    const int64_t index = counter * kRandomLanes - a.offset;
    if (index >= 0) {
      store_up_to(a.values + index, a.size - index, a.aligned, numbers);
      return;
    }
#pragma unroll
    for (int lane = 0; lane < kRandomLanes; ++lane) {
      if (index + lane >= 0 && index + lane < a.size) a.values[index + lane] = numbers[lane];
    }
  });
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
MOE_KERNEL(jitter_kernel, (gpu::kRowThreads), const JitterArguments a) {
  for_each_item((a.size + kRandomLanes - 1) / kRandomLanes, [&](int64_t counter) {
    const int64_t index = counter * kRandomLanes;
    float values[kRandomLanes], numbers[kRandomLanes];
    load_up_to(static_cast<const T*>(a.x) + index, a.size - index, a.aligned, values);
    draw_uniform(a.seed, static_cast<uint64_t>(counter), numbers);
#pragma unroll
    for (int lane = 0; lane < kRandomLanes; ++lane) values[lane] *= jitter_factor(numbers[lane], a.epsilon);
    store_up_to(static_cast<T*>(a.y) + index, a.size - index, a.aligned, values);
  });
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
  const RandomArguments arguments{
      .seed = p.seed,
      .offset = p.offset,
      .values = p.values.as<float>(),
      .size = p.values.size(),
      .aligned = aligned,
  };
  // One more than the whole counters, because the values may begin in the middle of one.
  const unsigned grid = gpu::element_grid(arguments.size / kRandomLanes + 2, context.traits());
  return p.distribution == Distribution::normal ? launch_distribution<Distribution::normal>(arguments, grid, stream)
                                                : launch_distribution<Distribution::uniform>(arguments, grid, stream);
}

Status run(Context& context, const Jitter& p) {
  JitterArguments arguments{
      .x = p.x.data,
      .y = p.y.data,
      .seed = p.seed,
      .epsilon = p.epsilon,
      .size = p.x.size(),
      .aligned = false,
  };
  const unsigned grid = gpu::element_grid((arguments.size + kRandomLanes - 1) / kRandomLanes, context.traits());
  return gpu::dispatch_float(p.x.dtype, [&](auto type) {
    using T = typename decltype(type)::type;
    arguments.aligned = vectors_aligned<T, kRandomLanes>(p.x.data, kRandomLanes) &&
                        vectors_aligned<T, kRandomLanes>(p.y.data, kRandomLanes);
    return launch("jitter", jitter_kernel<T>, dim3(grid), dim3(gpu::kRowThreads), 0, context.stream(), arguments);
  });
}

}  // namespace moe::MOE_GPU_NAMESPACE
