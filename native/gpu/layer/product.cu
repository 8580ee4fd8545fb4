#include "gpu/layer/product.h"

#include "gpu/gemm/gather_inputs.cuh"
#include "gpu/gemm/grouped_gemm.cuh"
#include "gpu/layer/offload.h"

namespace moe::MOE_GPU_NAMESPACE {

TileMapArguments map_of(const Pass& pass, size_t index, const MappedExperts& mapped) {
  gpu::IdError* error =
      pass.errors.next({.parameter = "forward: offsets", .what = nullptr, .limit = pass.plan.row_count, .columns = 0});
  return tile_map_arguments({pass.state.offsets.as<int>(), pass.layer.all_experts(), pass.plan.row_count}, mapped,
                            pass.plan.maps[index].tile_rows, pass.state.tile_maps[index], error);
}

Status multiply(const Pass& pass, size_t index, const ProductRows& rows) {
  const LayerWeights::Product& product = pass.weights.products()[index];
  const gpu::ProductPlan& plan = pass.plan.products[index];
  GroupedGemmOperands operands{.input = {.x = rows.x.data, .rows = rows.x.shape[0]},
                               .weight = *product.weight,
                               .bias = product.bias->view(),
                               .result = {.y = rows.y.data,
                                          .dtype = rows.y.dtype,
                                          .pitch = rows.y.shape[1],
                                          .weight_of_row = rows.weight_of_row.as<float>(),
                                          .multiplies_y = rows.multiplies_y,
                                          .before = rows.before}};
  const void* map = pass.state.tile_maps[plan.map];
  if (!rows.token_of_row.absent()) {
    operands.input.token_of_row = rows.token_of_row.as<int>();
    operands.input.token_error = pass.errors.next(
        {.parameter = "forward: token of row", .what = "a row", .limit = rows.x.shape[0], .columns = 0});
  }
  const auto launch = [&]() -> Status {
    if (plan.inputs == gpu::InputUse::as_they_are) return launch_grouped_gemm(operands, plan.gemm, map, pass.stream);
    // Every row has a token.
    void* gathered = pass.workspace + pass.plan.gathered;
    float* factors = reinterpret_cast<float*>(pass.workspace + pass.plan.row_factors);
    MOE_TRY(launch_gather_inputs({.source = operands.input,
                                  .dtype = rows.x.dtype,
                                  .pitch = rows.x.shape[1],
                                  .rows = gathered,
                                  .count = pass.plan.row_count,
                                  .places = nullptr,
                                  .factors = factors,
                                  .weights = rows.weight_of_row.as<float>()},
                                 *product.weight, plan.gemm, map, pass.traits, pass.stream));
    GroupedGemmOperands changed = operands;
    changed.input = {.x = gathered, .rows = pass.plan.row_count};
    set_factors(product.weight->inputs().tokens(), factors, &changed.input, &changed.result);
    return launch_grouped_gemm(changed, plan.gemm, map, pass.stream);
  };
  OffloadedPass* offload = pass.offload_of(plan.group);
  if (offload == nullptr) return launch();
  return offload->run_rounds([&](const MappedExperts& round) -> Status {
    MOE_TRY(launch_tile_map(map_of(pass, plan.map, round), pass.traits.max_threads, pass.stream));
    return launch();
  });
}

}  // namespace moe::MOE_GPU_NAMESPACE
