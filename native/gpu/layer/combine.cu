#include "gpu/experts/combine.cuh"
#include "gpu/layer/pass.h"

namespace moe::MOE_GPU_NAMESPACE {

Status run_combine(const Pass& pass) {
  const gpu::PassState& state = pass.state;
  const bool weighted = pass.layer.weight_on == WeightPlace::output;
  gpu::IdError* error = pass.errors.next({.parameter = "forward: row of slot",
                                          .what = "a row",
                                          .limit = pass.plan.row_count,
                                          .columns = state.slot_ids.shape[1]});
  return launch_combine({.rows = state.rows,
                         .row_of_slot = state.row_of_slot,
                         .weights = weighted ? state.slot_weights : TensorView{},
                         .residual = pass.forward.residual,
                         .y = pass.forward.y},
                        error, pass.traits, pass.stream);
}

}  // namespace moe::MOE_GPU_NAMESPACE
