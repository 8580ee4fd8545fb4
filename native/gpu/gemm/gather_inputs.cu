#include "gpu/gemm/gather_inputs.cuh"

#include <ptx/launch.cuh>

#include "gpu/plan/plan.h"
#include "gpu/plan/plan_parts.h"
#include "gpu/tile/dispatch.h"
#include "gpu/tile/element.cuh"

namespace moe::MOE_GPU_NAMESPACE {
namespace {

// Columns that a block gathers of each row.
constexpr int kBlockColumns = 256;

struct Arguments {
  GemmInput source;
  int64_t source_pitch;
  const float* scales;  // null: 1 each
  const int* orders;    // null: each its own
  const TileMapHeader* map;
  int columns;
  void* rows;
  int64_t pitch;
  int* places;
};

// One warp per row, and blocks side by side along a row.
template <class From, class To>
MOE_KERNEL(gather_inputs_kernel, (gpu::kRowThreads), const Arguments a) {
  const int lane = static_cast<int>(threadIdx.x % 32), warp = static_cast<int>(threadIdx.x / 32);
  const int first = static_cast<int>(blockIdx.y) * kBlockColumns;
  const int end = a.columns < first + kBlockColumns ? a.columns : first + kBlockColumns;
  for (int index = static_cast<int>(blockIdx.x); index < a.map->count; index += static_cast<int>(gridDim.x)) {
    const RowTile tile = load_row_tile(a.map, index);
    if (tile.expert < 0) continue;
    const int64_t place = static_cast<int64_t>(tile.expert) * a.columns;
    const int* order = a.orders == nullptr ? nullptr : a.orders + place;
    const float* scale = a.scales == nullptr ? nullptr : a.scales + place;
    for (int r = warp; r < tile.rows; r += gpu::kRowThreads / 32) {
      const int64_t row = tile.first_row + r;
      const int64_t token = a.source.token_of_row == nullptr
                                ? row
                                : checked_id(a.source.token_of_row[row], a.source.rows, row, a.source.token_error);
      if (a.places != nullptr && lane == 0 && blockIdx.y == 0) a.places[row] = token < 0 ? -1 : static_cast<int>(row);
      if (token < 0) continue;
      const From* from = static_cast<const From*>(a.source.x) + token * a.source_pitch;
      To* to = static_cast<To*>(a.rows) + row * a.pitch;
#pragma unroll 4
      for (int k = first + lane; k < end; k += 32) {
        float value = to_float(from[order == nullptr ? k : order[k]]);
        if (scale != nullptr) value *= scale[k];
        to[k] = from_float<To>(value);
      }
    }
  }
}

}  // namespace

Status launch_gather_inputs(const GatheredRows& gathered, const GpuPackedExperts& weight, const gpu::GemmPlan& plan,
                            const void* map, const gpu::DeviceTraits& traits, Stream stream) {
  const int64_t columns = weight.weights().columns;
  if (plan.max_row_tiles == 0 || columns == 0) return {};
  const Arguments arguments{.source = gathered.source,
                            .source_pitch = gathered.pitch,
                            .scales = weight.inputs().scales(),
                            .orders = weight.inputs().orders(),
                            .map = static_cast<const TileMapHeader*>(map),
                            .columns = static_cast<int>(columns),
                            .rows = gathered.rows,
                            .pitch = plan.x_pitch,
                            .places = gathered.places};
  const auto across = static_cast<unsigned>(gpu::ceil_div(columns, kBlockColumns));
  const dim3 grid(gpu::capped_grid(plan.max_row_tiles, 16, traits), across);
  return gpu::dispatch_float(gathered.dtype, [&](auto from) {
    using From = typename decltype(from)::type;
    return gpu::dispatch_float(plan.x_dtype(), [&](auto to) {
      return launch("gather_inputs", gather_inputs_kernel<From, typename decltype(to)::type>, grid,
                    dim3(gpu::kRowThreads), 0, stream, arguments);
    });
  });
}

}  // namespace moe::MOE_GPU_NAMESPACE
