#include "gpu/experts/softmax_rows.cuh"
#include "gpu/layer/product.h"

namespace moe::MOE_GPU_NAMESPACE {

Status run_down(const Pass& pass) {
  const TensorView& rows = pass.state.rows;
  for (size_t i = 0; i < pass.plan.products.size(); ++i) {
    const gpu::ProductPlan& plan = pass.plan.products[i];
    if (plan.role == gpu::ProductRole::down) MOE_TRY(multiply(pass, i, {.x = pass.state.inner[plan.group], .y = rows}));
  }
  if (pass.layer.output_activation == OutputActivation::none) return {};
  return launch_softmax_rows(rows, pass.traits, pass.stream);
}

}  // namespace moe::MOE_GPU_NAMESPACE
