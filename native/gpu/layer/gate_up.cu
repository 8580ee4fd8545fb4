#include "gpu/gemm/pack.cuh"
#include "gpu/layer/product.h"
#include "gpu/plan/views.h"

namespace moe::MOE_GPU_NAMESPACE {

namespace {

// Where the caller wants what a product gives before the activation.
RowsBefore rows_before(const Pass& pass, gpu::ProductRole role) {
  const bool of_multiplier = role == gpu::ProductRole::multiplier;
  const TensorView& kept = of_multiplier ? pass.forward.multiplied : pass.forward.pre;
  if (kept.absent()) return {};
  const int64_t intermediate = pass.layer.intermediate;
  return {.rows = kept.data,
          .dtype = kept.dtype,
          .pitch = kept.shape[1],
          .first = role == gpu::ProductRole::up ? intermediate : 0,
          .second = intermediate};
}

}  // namespace

// inner = act(gate x) * (up x) * (multiplier x): a group's first product sets its inner activations, the others
// multiply them.
Status run_gate_up(const Pass& pass) {
  const TensorView& x = pass.forward.x;
  const int64_t tokens = x.shape[0];
  for (const gpu::ConvertedPlan& converted : pass.plan.converted) {
    MOE_TRY(launch_pack_rows(
        whole_matrix(x), {},
        {.data = pass.workspace + converted.x, .dtype = converted.dtype, .rows = tokens, .pitch = converted.pitch},
        pass.traits, pass.stream));
  }
  bool first_of_group = true;
  for (size_t i = 0; i < pass.plan.products.size(); ++i) {
    const gpu::ProductPlan& plan = pass.plan.products[i];
    if (plan.role == gpu::ProductRole::down) {
      first_of_group = true;
      continue;
    }
    const gpu::GemmPlan& gemm = plan.gemm;
    MOE_TRY(multiply(
        pass, i,
        {.x = gemm.converts_x ? gpu::matrix_view(pass.workspace + plan.x, gemm.x_dtype(), tokens, gemm.x_pitch) : x,
         .token_of_row = pass.state.token_of_row,
         .weight_of_row = pass.state.weight_of_row,
         .y = pass.state.inner[plan.group],
         .multiplies_y = !first_of_group,
         .before = rows_before(pass, plan.role)}));
    first_of_group = false;
  }
  return {};
}

}  // namespace moe::MOE_GPU_NAMESPACE
