#include "gpu/gemm/gather_inputs.cuh"

#include <ptx/launch.cuh>

#include "gpu/plan/plan.h"
#include "gpu/plan/plan_parts.h"
#include "gpu/tile/dispatch.h"
#include "gpu/tile/element.cuh"
#include "gpu/tile/reduce.cuh"

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
  TokenScheme tokens;
  float* factors;
  const float* weights;
};

// Columns begin .. end - 1 of a row as codes with one scale, times the scale if `scaled`. Returns the scale. All lanes
// of a warp take part.
template <class To, class Value>
__device__ float round_group(TokenFormat format, int begin, int end, bool scaled, To* to, Value&& value) {
  const int lane = static_cast<int>(threadIdx.x % 32);
  uint32_t largest = 0;
  // Unrolled, these loops would spill what outlives a division's call.
#pragma unroll 1
  for (int k = begin + lane; k < end; k += 32) largest = Max()(largest, magnitude_bits(value(k)));
#pragma unroll
  for (int distance = 16; distance > 0; distance /= 2) {
    largest = Max()(largest, __shfl_xor_sync(kAllLanes, largest, distance));
  }
  const float scale = token_scale(format, largest);
  const float factor = scaled ? scale : 1.0f;
#pragma unroll 1
  for (int k = begin + lane; k < end; k += 32) to[k] = from_float<To>(token_code(format, value(k), scale) * factor);
  return scale;
}

// One warp per row, and blocks side by side along a row unless all of it has one scale.
template <class From, class To>
MOE_KERNEL(gather_inputs_kernel, (gpu::kRowThreads), const Arguments a) {
  const int lane = static_cast<int>(threadIdx.x % 32), warp = static_cast<int>(threadIdx.x / 32);
  const int width = a.tokens.scales_rows() ? a.columns : kBlockColumns;
  const int first = static_cast<int>(blockIdx.y) * width;
  const int end = a.columns < first + width ? a.columns : first + width;
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
      const auto value = [&](int k) {
        const float element = to_float(from[order == nullptr ? k : order[k]]);
        return scale == nullptr ? element : element * scale[k];
      };
      if (a.tokens.scales_rows()) {
        const float row_scale = round_group(a.tokens.format, first, end, false, to, value);
        if (lane == 0) a.factors[row] = a.weights == nullptr ? row_scale : row_scale * a.weights[row];
      } else if (a.tokens.coded()) {
        for (int group = first; group < end; group += a.tokens.columns) {
          const int group_end = end < group + a.tokens.columns ? end : group + a.tokens.columns;
          round_group(a.tokens.format, group, group_end, true, to, value);
        }
      } else {
#pragma unroll 4
        for (int k = first + lane; k < end; k += 32) to[k] = from_float<To>(value(k));
      }
    }
  }
}

}  // namespace

Status launch_gather_inputs(const GatheredRows& gathered, const GpuPackedExperts& weight, const gpu::GemmPlan& plan,
                            const void* map, const gpu::DeviceTraits& traits, Stream stream) {
  const int64_t columns = weight.weights().columns;
  const bool whole_rows = weight.inputs().tokens().scales_rows();
  if (plan.max_row_tiles == 0 || (columns == 0 && !whole_rows)) return {};
  const Arguments arguments{.source = gathered.source,
                            .source_pitch = gathered.pitch,
                            .scales = weight.inputs().scales(),
                            .orders = weight.inputs().orders(),
                            .map = static_cast<const TileMapHeader*>(map),
                            .columns = static_cast<int>(columns),
                            .rows = gathered.rows,
                            .pitch = plan.x_pitch,
                            .places = gathered.places,
                            .tokens = weight.inputs().tokens(),
                            .factors = gathered.factors,
                            .weights = gathered.weights};
  const auto across = static_cast<unsigned>(whole_rows ? 1 : gpu::ceil_div(columns, kBlockColumns));
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
