#include "gpu/gemm/grouped_gemm.cuh"

#include "gpu/gemm/functions.cuh"
#include "gpu/gemm/gather_inputs.cuh"
#include "gpu/gemm/pack.cuh"
#include "gpu/operators.h"
#include "gpu/plan/plan.h"
#include "gpu/tile/dispatch.h"

namespace moe::MOE_GPU_NAMESPACE {

Status launch_grouped_gemm(const GroupedGemmOperands& o, const gpu::GemmPlan& plan, const void* map, Stream stream) {
  const ExpertProduct& product = o.weight.weights();
  GemmArguments arguments{.input = o.input,
                          .x_pitch = plan.x_pitch,
                          .columns = static_cast<int>(product.columns),
                          .weight = o.weight.data(),
                          .packed = o.weight.matrix(),
                          .format = *product.format,
                          .map = static_cast<const TileMapHeader*>(map),
                          .column_tiles = static_cast<int>(plan.column_tiles),
                          .epilogue = {.result = o.result,
                                       .bias = o.bias.data,
                                       .bias_dtype = o.bias.dtype,
                                       .activation = product.activation,
                                       .part = product.part,
                                       .clamps = {product.clamps.routed, product.clamps.shared},
                                       .first_shared = product.clamps.first_shared,
                                       .gated = product.gated(),
                                       .aligned_y = false,
                                       .outputs = product.outputs()}};
  MOE_TRY(gpu::dispatch_float(o.result.dtype, [&](auto type) -> Status {
    using Y = typename decltype(type)::type;
    arguments.epilogue.aligned_y = vectors_aligned<Y, kEpilogueRun>(o.result.y, o.result.pitch);
    return {};
  }));
  RowsBefore& before = arguments.epilogue.result.before;
  MOE_TRY(gpu::dispatch_float(before.dtype, [&](auto type) -> Status {
    using T = typename decltype(type)::type;
    const bool whole_runs = before.first % kEpilogueRun == 0 && before.second % kEpilogueRun == 0;
    before.aligned = whole_runs && vectors_aligned<T, kEpilogueRun>(before.rows, before.pitch);
    return {};
  }));
  return functions_of(*plan.kernel).launch(arguments, plan, stream);
}

Status run(Context& context, const GroupedGemm& p) {
  const auto& packed = *static_cast<const GpuPackedExperts*>(p.weight);
  const ExpertProduct& product = packed.weights();
  const int64_t rows = p.y.shape[0];
  const gpu::DeviceTraits& traits = context.traits();
  const Stream stream = context.stream();
  MOE_TRY(gpu::check_rows("groupedGemm: y", rows));
  const gpu::InputUse inputs = packed.inputs().use();
  const bool gathers = inputs != gpu::InputUse::as_they_are;
  const TokenScheme& scheme = packed.inputs().tokens();
  gpu::GemmPlan plan;
  MOE_TRY(gpu::plan_gemm({.x = gpu::as_read(inputs, scheme, p.x.dtype),
                          .format = product.format,
                          .rows = rows,
                          .experts = product.experts,
                          .packed_rows = packed.matrix().rows,
                          .columns = product.columns,
                          .x_aligned = gathers || gpu::rows_aligned(p.x),
                          .allowed = context.allowed},
                         traits, &plan));
  if (gathers) {
    plan.converts_x = false;
    plan.x_pitch = gpu::whole_vectors(product.columns, plan.x_dtype());
  }
  Scratch map(*context.runtime);
  MOE_TRY(map.reserve(plan.tile_map_bytes));
  Scratch converted(*context.runtime);
  MOE_TRY(converted.reserve(gpu::converted_bytes(plan, p.x.shape[0])));

  gpu::IdError* error =
      context.errors.next({.parameter = "groupedGemm: offsets", .what = nullptr, .limit = rows, .columns = 0});
  MOE_TRY(launch_tile_map(tile_map_arguments({p.offsets.as<int>(), product.experts, rows},
                                             {.group = {0, product.experts}}, plan.tile.rows, map.at(0), error),
                          traits.max_threads, stream));
  GemmInput input{.x = p.x.data, .rows = p.x.shape[0], .token_of_row = p.token_of_row.as<int>()};
  if (plan.converts_x) {
    input.x = converted.at(0);
    const PackedRows rows_of_x{
        .data = converted.at(0), .dtype = plan.x_dtype(), .rows = input.rows, .pitch = plan.x_pitch};
    MOE_TRY(launch_pack_rows(whole_matrix(p.x), {}, rows_of_x, traits, stream));
  }
  input.token_error =
      context.errors.next({.parameter = "groupedGemm: tokenOfRow", .what = "a row", .limit = input.rows, .columns = 0});
  Scratch gathered(*context.runtime), places(*context.runtime), factors(*context.runtime);
  if (gathers) {
    MOE_TRY(gathered.reserve(static_cast<size_t>(rows * plan.x_pitch) * info(plan.x_dtype()).bytes));
    if (input.token_of_row != nullptr) MOE_TRY(places.reserve(static_cast<size_t>(rows) * sizeof(int)));
    MOE_TRY(factors.reserve(static_cast<size_t>(rows * scheme.scales_of(product.columns)) * sizeof(float)));
    int* place_of_row = reinterpret_cast<int*>(places.at(0));
    MOE_TRY(launch_gather_inputs({.source = input,
                                  .dtype = p.x.dtype,
                                  .pitch = p.x.shape[1],
                                  .rows = gathered.at(0),
                                  .count = rows,
                                  .places = place_of_row,
                                  .factors = reinterpret_cast<float*>(factors.at(0))},
                                 packed, plan, map.at(0), traits, stream));
    input = {.x = gathered.at(0), .rows = rows, .token_of_row = place_of_row, .token_error = input.token_error};
  }
  GemmResult result{.y = p.y.data, .dtype = p.y.dtype, .pitch = p.y.shape[1]};
  set_factors(scheme, reinterpret_cast<const float*>(factors.at(0)), &input, &result);
  return launch_grouped_gemm({.input = input, .weight = packed, .bias = p.bias, .result = result}, plan, map.at(0),
                             stream);
}

}  // namespace moe::MOE_GPU_NAMESPACE
