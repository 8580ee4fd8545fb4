#include <ptx/launch.cuh>

#include "gpu/operators.h"
#include "gpu/plan/plan.h"
#include "gpu/tile/loops.cuh"

namespace moe::MOE_GPU_NAMESPACE {
namespace {

template <class Value, class Wide, class Scale>
MOE_KERNEL(accumulate_kernel, (gpu::kRowThreads), const Value* values, Wide* totals, int64_t count,
           bool values_are_totals, Scale scale) {
  for_each_item(count, [&](int64_t i) {
    totals[i].add(scale * (values_are_totals ? reinterpret_cast<const Wide*>(values)[i].value() : values[i]));
  });
}

}  // namespace

Status run(Context& context, const Accumulate& p) {
  const Stream stream = context.stream();
  const int64_t count = p.totals.shape[0];
  const dim3 grid(gpu::row_grid((count + 31) / 32, context.traits())), block(gpu::kRowThreads);
  if (p.totals.dtype == DType::i32) {
    return launch("accumulate", accumulate_kernel<int, WideInteger, int64_t>, grid, block, 0, stream,
                  p.values.as<int>(), p.totals.as<WideInteger>(), count, p.values_are_totals, int64_t{1});
  }
  return launch("accumulate", accumulate_kernel<float, WideFloat, double>, grid, block, 0, stream, p.values.as<float>(),
                p.totals.as<WideFloat>(), count, p.values_are_totals, p.scale);
}

}  // namespace moe::MOE_GPU_NAMESPACE
