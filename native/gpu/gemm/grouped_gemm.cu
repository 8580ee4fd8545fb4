#include "gpu/gemm/grouped_gemm.cuh"

#include "gpu/tile/dispatch.h"

namespace moe::MOE_GPU_NAMESPACE {

Status launch_grouped_gemm(const GroupedGemmOperands& o, const gpu::GemmPlan& plan, const void* map,
                           gpu::IdError* token_error, Stream stream) {
  const gpu::PackedLayout layout = gpu::packed_layout(o.weights);
  GemmArguments arguments{};
  arguments.x = o.x;
  arguments.x_pitch = plan.x_pitch;
  arguments.x_rows = o.x_rows;
  arguments.columns = static_cast<int>(o.weights.columns);
  arguments.token_of_row = o.token_of_row.as<int>();
  arguments.token_error = token_error;
  arguments.weight = o.weight;
  arguments.packed_rows = layout.rows;
  arguments.weight_pitch = layout.pitch;
  arguments.map = static_cast<const TileMapHeader*>(map);
  arguments.column_tiles = static_cast<int>(plan.column_tiles);
  Epilogue& epilogue = arguments.epilogue;
  epilogue.weight_of_row = o.weight_of_row;
  epilogue.bias = o.bias.data;
  epilogue.bias_dtype = o.bias.dtype;
  epilogue.y_dtype = o.y_dtype;
  epilogue.activation = o.weights.activation;
  epilogue.clamp = o.weights.clamp;
  epilogue.gated = is_gated(o.weights.activation);
  epilogue.multiplies_y = o.multiplies_y;
  epilogue.y = o.y;
  epilogue.y_pitch = o.y_pitch;
  epilogue.outputs = o.weights.outputs();
  MOE_TRY(gpu::dispatch_float(o.y_dtype, [&](auto type) -> Status {
    epilogue.aligned_y = vectors_aligned<typename decltype(type)::type, kEpilogueRun>(o.y, o.y_pitch);
    return {};
  }));
  if (plan.path == gpu::GemmPath::fma) return launch_gemm_fma(arguments, plan, plain_dtype(*o.weights.format), stream);
  return launch_gemm_mma(arguments, plan, stream);
}

}  // namespace moe::MOE_GPU_NAMESPACE
