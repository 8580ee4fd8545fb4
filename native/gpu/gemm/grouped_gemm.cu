#include "gpu/gemm/grouped_gemm.cuh"

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

}  // namespace moe::MOE_GPU_NAMESPACE
