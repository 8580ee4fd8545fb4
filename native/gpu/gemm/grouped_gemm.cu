#include "gpu/gemm/grouped_gemm.cuh"

#include "gpu/gemm/pack.cuh"
#include "gpu/gemm/packed_experts.h"
#include "gpu/operators.h"
#include "gpu/tile/dispatch.h"

namespace moe::MOE_GPU_NAMESPACE {

Status launch_grouped_gemm(const GroupedGemmOperands& o, const gpu::GemmPlan& plan, const void* map, Stream stream) {
  const gpu::PackedLayout layout = gpu::packed_layout(o.weights);
  GemmArguments arguments{.input = o.input,
                          .x_pitch = plan.x_pitch,
                          .columns = static_cast<int>(o.weights.columns),
                          .weight = o.weight,
                          .packed_rows = layout.rows,
                          .weight_pitch = layout.pitch,
                          .map = static_cast<const TileMapHeader*>(map),
                          .column_tiles = static_cast<int>(plan.column_tiles),
                          .epilogue = {.result = o.result,
                                       .bias = o.bias.data,
                                       .bias_dtype = o.bias.dtype,
                                       .activation = o.weights.activation,
                                       .clamp = o.weights.clamp,
                                       .gated = is_gated(o.weights.activation),
                                       .aligned_y = false,
                                       .outputs = o.weights.outputs()}};
  MOE_TRY(gpu::dispatch_float(o.result.dtype, [&](auto type) -> Status {
    using Y = typename decltype(type)::type;
    arguments.epilogue.aligned_y = vectors_aligned<Y, kEpilogueRun>(o.result.y, o.result.pitch);
    return {};
  }));
  if (plan.path == gpu::GemmPath::fma) return launch_gemm_fma(arguments, plan, plain_dtype(*o.weights.format), stream);
  return launch_gemm_mma(arguments, plan, stream);
}

Status run(Context& context, const GroupedGemm& p) {
  const ExpertProduct& weights = p.weight->weights();
  const int64_t rows = p.y.shape[0];
  const gpu::DeviceTraits& traits = context.traits();
  const Stream stream = context.stream();
  MOE_TRY(gpu::check_rows("groupedGemm: y", rows));
  const gpu::GemmPlan plan =
      gpu::plan_gemm({p.x.dtype, plain_dtype(*weights.format), rows, weights.experts, gpu::packed_layout(weights).rows,
                      weights.columns, gpu::rows_aligned(p.x), context.tf32},
                     traits);
  Scratch map(*context.runtime);
  MOE_TRY(map.reserve(plan.tile_map_bytes));
  Scratch converted(*context.runtime);
  MOE_TRY(converted.reserve(gpu::converted_bytes(plan, p.x.shape[0])));

  gpu::IdError* error =
      context.errors.next({.parameter = "groupedGemm: offsets", .what = nullptr, .limit = rows, .columns = 0});
  MOE_TRY(launch_tile_map(p.offsets.as<int>(), weights.experts, rows, plan.tile.rows, map.at(0), error,
                          traits.max_threads, stream));
  if (plan.converts_x) {
    MOE_TRY(launch_pack_rows(whole_matrix(p.x), {}, {converted.at(0), plan.x_dtype, p.x.shape[0], plan.x_pitch}, traits,
                             stream));
  }
  GemmInput input{.x = plan.converts_x ? converted.at(0) : p.x.data,
                  .rows = p.x.shape[0],
                  .token_of_row = p.token_of_row.as<int>()};
  input.token_error = context.errors.next(
      {.parameter = "groupedGemm: tokenOfRow", .what = "a row", .limit = p.x.shape[0], .columns = 0});
  return launch_grouped_gemm({.input = input,
                              .weight = static_cast<const GpuPackedExperts*>(p.weight)->data(),
                              .weights = weights,
                              .bias = p.bias,
                              .result = {.y = p.y.data, .dtype = p.y.dtype, .pitch = p.y.shape[1]}},
                             plan, map.at(0), stream);
}

}  // namespace moe::MOE_GPU_NAMESPACE
