// The tests' stage on the GPU.
#include <ptx/launch.cuh>

#include "gpu/layer/pass.h"
#include "gpu/plan/plan.h"
#include "gpu/tile/dispatch.h"
#include "gpu/tile/element.cuh"
#include "gpu/tile/loops.cuh"

namespace moe::MOE_GPU_NAMESPACE {
namespace {

template <class T>
MOE_KERNEL(negate_kernel, (gpu::kRowThreads), T* y, int64_t size) {
  for_each_item(size, [&](int64_t i) { y[i] = from_float<T>(-to_float(y[i])); });
}

}  // namespace

Status run_test_negate(const Pass& pass) {
  const TensorView& y = pass.forward.y;
  const dim3 grid(gpu::element_grid(y.size(), pass.traits)), block(gpu::kRowThreads);
  return gpu::dispatch_float(y.dtype, [&](auto type) {
    using T = typename decltype(type)::type;
    return launch("test_negate", negate_kernel<T>, grid, block, 0, pass.stream, y.as<T>(), y.size());
  });
}

}  // namespace moe::MOE_GPU_NAMESPACE
