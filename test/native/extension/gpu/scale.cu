#include <ptx/launch.cuh>

#include "gpu/operators.h"
#include "gpu/plan/plan.h"
#include "gpu/tile/dispatch.h"
#include "gpu/tile/element.cuh"

namespace moe::MOE_GPU_NAMESPACE {
namespace {

template <class T>
__global__ void __launch_bounds__(gpu::kRowThreads) scale_kernel(const T* x, float factor, T* y, int64_t size) {
  const int64_t threads = static_cast<int64_t>(gridDim.x) * blockDim.x;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < size; i += threads) {
    y[i] = from_float<T>(to_float(x[i]) * factor);
  }
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
