#include "gpu/experts/softmax_rows.cuh"
#include "gpu/layer/product.h"

namespace moe::MOE_GPU_NAMESPACE {

Status run_down(const Pass& pass) {
  const TensorView& rows = pass.state.rows;
  MOE_TRY(multiply(pass, pass.plan.products.size() - 1, {.x = pass.state.inner, .y = rows}));
  if (pass.layer.output_activation == OutputActivation::none) return {};
  return launch_softmax_rows(rows, pass.traits, pass.stream);
}

}  // namespace moe::MOE_GPU_NAMESPACE
