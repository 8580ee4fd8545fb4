#include <ptx/launch.cuh>

#include "gpu/operators.h"
#include "gpu/plan/plan.h"
#include "gpu/tile/dispatch.h"
#include "gpu/tile/element.cuh"
#include "gpu/tile/loops.cuh"

namespace moe::MOE_GPU_NAMESPACE {
namespace {

template <class T>
MOE_KERNEL(scale_kernel, (gpu::kRowThreads), const T* x, float factor, T* y, int64_t size) {
  for_each_item(size, [&](int64_t i) { y[i] = from_float<T>(to_float(x[i]) * factor); });
}

}  // namespace

Status run(Context& context, const TestScale& p) {
  const dim3 grid(gpu::element_grid(p.x.size(), context.traits())), block(gpu::kRowThreads);
  return gpu::dispatch_float(p.x.dtype, [&](auto type) {
    using T = typename decltype(type)::type;
    return launch("test_scale", scale_kernel<T>, grid, block, 0, context.stream(), p.x.as<const T>(), p.factor,
                  p.y.as<T>(), p.x.size());
  });
}

}  // namespace moe::MOE_GPU_NAMESPACE
