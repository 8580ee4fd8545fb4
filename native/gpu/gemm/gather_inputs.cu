#include "gpu/gemm/gather_inputs.cuh"

#include <algorithm>
#include <type_traits>

#include <ptx/launch.cuh>

#include "gpu/plan/plan.h"
#include "gpu/plan/plan_parts.h"
#include "gpu/tile/dispatch.h"
#include "gpu/tile/element.cuh"
#include "gpu/tile/reduce.cuh"

namespace moe::MOE_GPU_NAMESPACE {
namespace {

// Columns that a block gathers of each row, if it does not round them and that does not make the grid too large.
constexpr int64_t kBlockColumns = 256;

struct Arguments {
  GemmInput source;
  int64_t source_pitch;
  const float* scales;  // null: 1 each
  const int* orders;    // null: each its own
  const TileMapHeader* map;
  unsigned tile_rows;
  int columns, block_columns;
  void* rows;
  int64_t count, pitch;
  int* places;
  TokenScheme tokens;
  float* factors;
  const float* weights;
};

// One row of x as its product wants it, before it is rounded.
template <class From>
struct SourceRow {
  const Arguments& a;
  int64_t row, token;  // token < 0: there is none
  const From* x;
  int64_t place;  // of the expert's order and scales

  __device__ SourceRow(const Arguments& arguments, const RowTile& tile, int r)
      : a(arguments), row(tile.first_row + r), place(static_cast<int64_t>(tile.expert) * arguments.columns) {
    const GemmInput& source = a.source;
    token = source.token_of_row == nullptr ? row
                                           : checked_id(source.token_of_row[row], source.rows, row, source.token_error);
    x = static_cast<const From*>(source.x) + token * a.source_pitch;
  }
  __device__ float at(int k) const {
    const float element = to_float(x[a.orders == nullptr ? k : a.orders[place + k]]);
    return a.scales == nullptr ? element : element * a.scales[place + k];
  }
  __device__ void note_place() const {
    if (a.places != nullptr) a.places[row] = token < 0 ? -1 : static_cast<int>(row);
  }
};

// One warp per row, and blocks side by side along a row.
template <class From, class To>
MOE_KERNEL(gather_inputs_kernel, (gpu::kRowThreads), const Arguments a) {
  const int lane = static_cast<int>(threadIdx.x % 32), warp = static_cast<int>(threadIdx.x / 32);
  const int first = static_cast<int>(blockIdx.y) * a.block_columns;
  const int end = a.columns - first < a.block_columns ? a.columns : first + a.block_columns;
  for (int index = static_cast<int>(blockIdx.x); index < a.map->count; index += static_cast<int>(gridDim.x)) {
    const RowTile tile = load_row_tile(a.map, index);
    if (tile.expert < 0) continue;
    for (int r = warp; r < tile.rows; r += gpu::kRowThreads / 32) {
      const SourceRow<From> source(a, tile, r);
      if (lane == 0 && blockIdx.y == 0) source.note_place();
      if (source.token < 0) continue;
      To* to = static_cast<To*>(a.rows) + source.row * a.pitch;
#pragma unroll 4
      for (int k = first + lane; k < end; k += 32) to[k] = from_float<To>(source.at(k));
    }
  }
}

// Codes as numbers of a type, or as bytes.
template <class To>
struct CodeElement {
  // Codes that a thread rounds and stores at once. More would spill.
  static constexpr int kRun = 2;
  // How many runs `columns` columns take, with padding.
  __device__ static int runs(int columns) { return (columns + kRun - 1) / kRun; }
  // Column i of a run.
  __device__ static int column(int run, int i) { return run * kRun + i; }
  __device__ static To of(float code) { return from_float<To>(code); }
};
struct RunsOfBytes {
  static constexpr int kRun = 4;
  __device__ static int runs(int columns) { return (columns + 15) / 16 * 4; }
  // A run is part t of two chunks of packed codes, which has columns 2t, 2t + 8, 2t + 1 and 2t + 9 of 16.
  __device__ static int column(int run, int i) { return run / 4 * 16 + run % 4 * 2 + i / 2 + i % 2 * 8; }
};
template <>
struct CodeElement<int8_t> : RunsOfBytes {
  __device__ static int8_t of(float code) { return static_cast<int8_t>(code); }
};
template <>
struct CodeElement<fp8> : RunsOfBytes {
  __device__ static fp8 of(float code) { return {static_cast<uint8_t>(to_e4m3(code))}; }
};

// Makes codes of columns begin .. end - 1 of a row, and returns their common scale. A warp or a block does it, with
// kThreads threads. The rest of the last run becomes zeros.
template <int kThreads, class From, class To>
__device__ __forceinline__ float round_columns(TokenFormat format, const SourceRow<From>& source, int begin, int end,
                                               To* to) {
  using Element = CodeElement<To>;
  constexpr int kRun = Element::kRun;
  const int thread = static_cast<int>(threadIdx.x) % kThreads, runs = Element::runs(end - begin);
  const auto load = [&](int run, float(&values)[kRun]) {
#pragma unroll
    for (int i = 0; i < kRun; ++i) {
      const int k = begin + Element::column(run, i);
      // Loads that nothing depends on are on their way together.
      const float value = source.at(k < end ? k : end - 1);
      values[i] = k < end ? value : 0.0f;
    }
  };
  // Runs that are on their way together, from memory; for the codes they come from L1.
  constexpr int kTogether = kThreads == 32 ? 1 : 8 / kRun;
  uint32_t largest = 0;
  int first = thread;
  // Nothing that this loop keeps in registers is for the next one, where it would spill around a division's call.
  asm volatile("" : "+r"(first));
#pragma unroll 1
  for (; first < runs; first += kThreads * kTogether) {
    float values[kTogether][kRun];
#pragma unroll
    for (int i = 0; i < kTogether; ++i) load(first + i * kThreads, values[i]);
#pragma unroll
    for (const auto& run : values) {
#pragma unroll
      for (const float value : run) largest = Max()(largest, magnitude_bits(value));
    }
  }
  if constexpr (kThreads == 32) {
    largest = warp_reduce(largest, Max());
  } else {
    largest = block_reduce(largest, Max());
  }
  const float scale = token_scale(format, largest);
#pragma unroll 1
  for (int run = thread; run < runs; run += kThreads) {
    float values[kRun];
    load(run, values);
    Vector<To, kRun> codes;
#pragma unroll
    for (int i = 0; i < kRun; ++i) codes.elements[i] = Element::of(token_code(format, values[i], scale));
    store_elements(to + begin + run * kRun, codes);
  }
  return scale;
}

// Calls use(row, where it goes) for each of this block's rows. Nothing of a tile is in registers meanwhile.
template <class From, class To, class Use>
__device__ __forceinline__ void for_each_row(const Arguments& a, Use&& use) {
  for (unsigned item = blockIdx.x; item < static_cast<unsigned>(a.map->count) * a.tile_rows; item += gridDim.x) {
    const RowTile tile = load_row_tile(a.map, static_cast<int>(item / a.tile_rows));
    const int r = static_cast<int>(item % a.tile_rows);
    if (tile.expert < 0 || r >= tile.rows) continue;
    const SourceRow<From> source(a, tile, r);
    if (threadIdx.x == 0 && blockIdx.y == 0) source.note_place();
    if (source.token >= 0) use(source, static_cast<To*>(a.rows) + source.row * a.pitch);
  }
}

template <class From, class To>
MOE_KERNEL(round_rows_kernel, (gpu::kRowThreads, 8), const Arguments a) {
  for_each_row<From, To>(a, [&](const SourceRow<From>& source, To* to) {
    const float scale = round_columns<gpu::kRowThreads>(a.tokens.format, source, 0, a.columns, to);
    if (threadIdx.x == 0) a.factors[source.row] = a.weights == nullptr ? scale : scale * a.weights[source.row];
  });
}

// One warp per group of columns, and blocks side by side along a row.
template <class From, class To>
MOE_KERNEL(round_groups_kernel, (gpu::kRowThreads), const Arguments a) {
  for_each_row<From, To>(a, [&](const SourceRow<From>& source, To* to) {
    constexpr int kWarps = gpu::kRowThreads / 32;
    const int width = a.tokens.columns, step = static_cast<int>(gridDim.y) * kWarps;
    for (int group = static_cast<int>(blockIdx.y * kWarps + threadIdx.x / 32); group * width < a.columns;
         group += step) {
      const int begin = group * width, end = a.columns < begin + width ? a.columns : begin + width;
      const float scale = round_columns<32>(a.tokens.format, source, begin, end, to);
      if (threadIdx.x % 32 == 0) a.factors[group * a.count + source.row] = scale;
    }
  });
}

}  // namespace

Status launch_gather_inputs(const GatheredRows& gathered, const GpuPackedExperts& weight, const gpu::GemmPlan& plan,
                            const void* map, const gpu::DeviceTraits& traits, Stream stream) {
  const int64_t columns = weight.weights().columns;
  const TokenScheme& tokens = weight.inputs().tokens();
  if (plan.max_row_tiles == 0) return {};
  const int64_t block_columns = std::max(kBlockColumns, ceil_divide(columns, gpu::kMaxGridY));
  const Arguments arguments{.source = gathered.source,
                            .source_pitch = gathered.pitch,
                            .scales = weight.inputs().scales(),
                            .orders = weight.inputs().orders(),
                            .map = static_cast<const TileMapHeader*>(map),
                            .tile_rows = static_cast<unsigned>(plan.tile.rows),
                            .columns = static_cast<int>(columns),
                            .block_columns = static_cast<int>(block_columns),
                            .rows = gathered.rows,
                            .count = gathered.count,
                            .pitch = plan.x_pitch,
                            .places = gathered.places,
                            .tokens = tokens,
                            .factors = gathered.factors,
                            .weights = gathered.weights};
  const dim3 block(gpu::kRowThreads);
  const dim3 grid(gpu::capped_grid(plan.max_row_tiles, 16, traits),
                  // Without columns, the rows' places are still noted.
                  static_cast<unsigned>(std::max<int64_t>(ceil_divide(columns, block_columns), 1)));
  const dim3 grid_of_rows(gpu::capped_grid(plan.max_row_tiles * plan.tile.rows, 16, traits));
  // Of blocks, for a row's groups.
  const int64_t scales = tokens.coded() ? tokens.scales_of(columns) : 0;
  const dim3 grid_of_groups(grid_of_rows.x, gpu::blocks_of_row(gathered.count, 16, scales, traits));
  return gpu::dispatch_float(gathered.dtype, [&](auto from) {
    using From = typename decltype(from)::type;
    const auto round = [&](auto to) {
      using To = typename decltype(to)::type;
      // Only kernels of e4m3 take scales of groups.
      if constexpr (std::is_same_v<To, fp8> || std::is_same_v<To, bf16>) {
        if (!tokens.scales_rows()) {
          return launch("round_groups", round_groups_kernel<From, To>, grid_of_groups, block, 0, stream, arguments);
        }
      }
      return launch("round_rows", round_rows_kernel<From, To>, grid_of_rows, block, 0, stream, arguments);
    };
    const auto gather = [&](auto to) {
      return launch("gather_inputs", gather_inputs_kernel<From, typename decltype(to)::type>, grid, block, 0, stream,
                    arguments);
    };
    const DType dtype = plan.x_dtype();
    if (dtype == DType::u8) {
      return is_fp8(tokens.format) ? round(std::type_identity<fp8>{}) : round(std::type_identity<int8_t>{});
    }
    // Kernels of floats take codes as bf16 or f32, and rows without loss: in their own dtype or as f32.
    if (tokens.coded()) {
      return dtype == DType::bf16 ? round(std::type_identity<bf16>{}) : round(std::type_identity<float>{});
    }
    return dtype == gathered.dtype ? gather(from) : gather(std::type_identity<float>{});
  });
}

}  // namespace moe::MOE_GPU_NAMESPACE
