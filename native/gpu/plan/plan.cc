#include "gpu/plan/plan.h"

#include <algorithm>

#include "gpu/gemm/tile_map.h"
#include "gpu/plan/plan_parts.h"
#include "gpu/tile/interleave.h"

namespace moe::gpu {
namespace {

constexpr int64_t kWarp = 32;

// Shared memory that a block gets without asking for more, dynamic and static together.
constexpr int64_t kPlainShared = 48 * 1024;
// What the system keeps of shared memory for every block.
constexpr size_t kReservedShared = 1024;
// Bytes of K in a stage of the tensor-core kernel, to which packed rows are padded.
constexpr int64_t kStageRowBytes = 128;
// Vector accesses are 16 bytes.
constexpr int64_t kVectorBytes = 16;

GemmPath choose_path(const GemmProblem& problem) {
  if (problem.x != problem.weight) return GemmPath::fma;
  switch (problem.x) {
    case DType::f16: return GemmPath::f16;
    case DType::bf16: return GemmPath::bf16;
    default: return problem.tf32 ? GemmPath::tf32 : GemmPath::fma;
  }
}

// The height that an expert of average load fills once; lower where the device cannot run it.
int choose_tile(GemmPath path, const GemmProblem& problem, const DeviceTraits& traits) {
  const auto& tiles = path == GemmPath::fma ? kFmaTiles : kMmaTiles;
  const int64_t average = problem.rows / std::max(problem.experts, int64_t{1});
  int chosen = average <= 8 ? 0 : average <= 64 ? 1 : 2;
  while (chosen > 0 && (tiles[chosen].threads() > traits.max_threads ||
                        gemm_shared_bytes(path, tiles[chosen]) > traits.shared_per_block)) {
    --chosen;
  }
  return chosen;
}

}  // namespace

unsigned row_grid(int64_t rows, const DeviceTraits& traits) {
  return capped_grid(ceil_div(rows, kRowThreads / kWarp), 32, traits);
}

unsigned element_grid(int64_t elements, const DeviceTraits& traits) {
  return capped_grid(ceil_div(elements, kRowThreads), 32, traits);
}

int access_width(std::initializer_list<uint64_t> addresses_and_lengths) {
  uint64_t bits = 16;
  for (const uint64_t value : addresses_and_lengths) bits |= value;
  return static_cast<int>(bits & (~bits + 1));
}

RouterPlan plan_router(int64_t tokens, int64_t experts, const DeviceTraits& traits) {
  const auto blocks = [&](int tile) {
    return ceil_div(tokens, kRouterTiles[tile].block_tokens()) * ceil_div(experts, kRouterTiles[tile].block_experts());
  };
  const int tile = blocks(1) >= traits.multiprocessors ? 1 : 0;
  return {tile, capped_grid(blocks(tile), 16, traits)};
}

GatingPlan plan_gating(int64_t tokens, int64_t experts, const DeviceTraits& traits) {
  const int64_t needed = ceil_div(experts, kWarp);
  const int per_lane = needed <= 2 ? 2 : needed <= 8 ? 8 : needed <= 32 ? 32 : 0;
  return {per_lane, capped_grid(ceil_div(tokens, kGatingThreads / kWarp), 32, traits)};
}

SortPlan plan_sort(int64_t slots, int64_t experts, const DeviceTraits& traits) {
  // Up to so many slots a warp's part is quicker than two more launches.
  constexpr int64_t kSlotsPerWarp = 256;
  constexpr int64_t kMaxUnits = 256;
  constexpr int64_t kMaxCounts = int64_t{1} << 24;
  const int64_t count_bytes = experts * static_cast<int64_t>(sizeof(int));
  const int64_t warps_that_fit = (kPlainShared - kStaticShared) / count_bytes;

  SortPlan plan{};
  plan.scan_threads = std::min(kSortScanThreads, traits.max_threads);
  const int64_t warps = std::min({static_cast<int64_t>(std::min(kSortThreads, traits.max_threads)) / kWarp,
                                  std::max(ceil_div(slots, kWarp), int64_t{1}), warps_that_fit});
  if (warps > 0 && slots <= warps * kSlotsPerWarp) {
    plan.single_block = true;
    plan.grid = 1;
    plan.units = static_cast<int>(warps);
    plan.slots_per_unit = round_up(ceil_div(slots, warps), kWarp);
    plan.threads = static_cast<int>(warps * kWarp);
    plan.shared_bytes = static_cast<size_t>(warps * count_bytes);
    return plan;
  }
  const int64_t max_units = std::clamp(kMaxCounts / experts, int64_t{1}, kMaxUnits);
  plan.slots_per_unit = std::max(kSlotsPerWarp, round_up(ceil_div(slots, max_units), kWarp));
  plan.units = static_cast<int>(std::max(ceil_div(slots, plan.slots_per_unit), int64_t{1}));
  const int64_t warps_per_block = warps_that_fit > 0 ? std::min(warps_that_fit, int64_t{4}) : 4;
  plan.threads = static_cast<int>(warps_per_block * kWarp);
  plan.grid = static_cast<unsigned>(ceil_div(plan.units, warps_per_block));
  plan.shared_bytes = warps_that_fit > 0 ? static_cast<size_t>(warps_per_block * count_bytes) : 0;
  plan.workspace_bytes = static_cast<size_t>(plan.units * count_bytes);
  return plan;
}

CombinePlan plan_combine(int64_t tokens, int64_t hidden, const DeviceTraits& traits) {
  constexpr int64_t kMaxGridY = 65535;
  const int64_t vectors = ceil_div(hidden, kCombineColumns);
  const int64_t threads = std::clamp(round_up(vectors, kWarp), kWarp, int64_t{kRowThreads});
  return {static_cast<int>(threads), capped_grid(tokens, 64, traits),
          static_cast<unsigned>(std::min(ceil_div(vectors, threads), kMaxGridY))};
}

PackedLayout packed_layout(const ExpertProduct& weights) {
  const int64_t rows = is_gated(weights.activation) ? 2 * round_up(weights.outputs(), kInterleave) : weights.rows;
  return {rows,
          round_up(weights.columns, kStageRowBytes / static_cast<int64_t>(info(plain_dtype(*weights.format)).bytes))};
}

size_t gemm_shared_bytes(GemmPath path, const GemmTile& tile) {
  // The FMA kernel pads its rows of x by four floats, against bank conflicts.
  const int64_t stage = path == GemmPath::fma
                            ? kFmaDepth * (tile.rows + 4 + tile.columns) * static_cast<int64_t>(sizeof(float))
                            : (tile.rows + tile.columns) * kStageRowBytes;
  const int64_t staged = tile.rows * staged_pitch(tile.columns) * static_cast<int64_t>(sizeof(float));
  return static_cast<size_t>(std::max(tile.stages * stage, staged));
}

bool rows_aligned(const TensorView& x) {
  const uint64_t row_bytes = static_cast<uint64_t>(x.shape[1]) * info(x.dtype).bytes;
  return (reinterpret_cast<uint64_t>(x.data) | row_bytes) % kVectorBytes == 0;
}

Status check_rows(const char* parameter, int64_t rows) {
  if (rows < int64_t{1} << 31) return {};
  return {Code::invalid_argument, std::string(parameter) + ": expected fewer than 2^31 (token, slot) pairs, got " +
                                      std::to_string(rows) + ": split the tokens"};
}

GemmPlan plan_gemm(const GemmProblem& problem, const DeviceTraits& traits) {
  GemmPlan plan{};
  plan.path = choose_path(problem);
  plan.tile_index = choose_tile(plan.path, problem, traits);
  plan.tile = (plan.path == GemmPath::fma ? kFmaTiles : kMmaTiles)[plan.tile_index];
  plan.x_dtype = plan.path == GemmPath::fma ? DType::f32 : problem.x;
  plan.converts_x = plan.x_dtype != problem.x || !problem.x_aligned;
  plan.x_pitch = plan.converts_x
                     ? round_up(problem.columns, kVectorBytes / static_cast<int64_t>(info(plan.x_dtype).bytes))
                     : problem.columns;
  plan.column_tiles = ceil_div(problem.packed_rows, plan.tile.columns);
  plan.max_row_tiles = max_row_tiles(problem.rows, problem.experts, plan.tile.rows);
  plan.tile_map_bytes = tile_map_bytes(problem.rows, problem.experts, plan.tile.rows);
  plan.shared_bytes = gemm_shared_bytes(plan.path, plan.tile);
  const auto by_shared = static_cast<int64_t>(traits.shared_per_multiprocessor / (plan.shared_bytes + kReservedShared));
  plan.grid = capped_grid(
      plan.max_row_tiles * plan.column_tiles,
      std::clamp(by_shared, int64_t{1}, int64_t{resident_blocks(plan.tile, plan.path == GemmPath::tf32)}), traits);
  return plan;
}

size_t converted_bytes(const GemmPlan& plan, int64_t x_rows) {
  return plan.converts_x ? static_cast<size_t>(x_rows * plan.x_pitch) * info(plan.x_dtype).bytes : 0;
}

LayerPlan plan_layer(const LayerDescription& layer, const LayerProblem& problem, const DeviceTraits& traits) {
  const int64_t experts = layer.all_experts();
  const int64_t tokens = problem.tokens;
  const int64_t chosen = tokens * problem.choices;
  const int64_t slots = tokens * layer.slots(problem.choices);
  const int64_t rows = std::min(problem.max_choices, chosen) + (slots - chosen);
  const WeightFormat* format = layer.formats.up;
  const DType weight = plain_dtype(*format);
  const PackedLayout gate_up = packed_layout({experts, layer.gate_up_rows(), layer.hidden, format, layer.activation});
  const auto plan_product = [&](DType from, int64_t packed_rows, int64_t columns, bool aligned) {
    return plan_gemm({from, weight, rows, experts, packed_rows, columns, aligned, problem.tf32}, traits);
  };

  LayerPlan plan{};
  plan.row_count = rows;
  plan.sort = plan_sort(slots, experts, traits);
  plan.gate_up = plan_product(problem.x, gate_up.rows, layer.hidden, problem.x_aligned);
  if (layer.factor) plan.factor = plan_product(problem.x, layer.intermediate, layer.hidden, problem.x_aligned);
  plan.inner_dtype = plan.gate_up.x_dtype;
  plan.inner_pitch = round_up(layer.intermediate, kVectorBytes / static_cast<int64_t>(info(plan.inner_dtype).bytes));
  plan.down = plan_product(plan.inner_dtype, layer.hidden, layer.intermediate, true);
  plan.down.x_pitch = plan.inner_pitch;
  // A softmax of rounded rows would multiply their relative error by their size.
  plan.rows_dtype = layer.output_activation == OutputActivation::softmax ? DType::f32 : plan.inner_dtype;

  Parts parts;
  const auto elements = [](int64_t count, DType dtype) { return static_cast<size_t>(count) * info(dtype).bytes; };
  plan.logits = parts.take(elements(tokens * layer.experts, DType::f32));
  plan.ids = parts.take(elements(chosen, DType::i32));
  plan.weights = parts.take(elements(chosen, DType::f32));
  const int64_t appended = layer.shared_experts > 0 ? slots : 0;
  plan.shared_gate = parts.take(elements(tokens * layer.shared_gate_rows(), DType::f32));
  plan.slot_ids = parts.take(elements(appended, DType::i32));
  plan.slot_weights = parts.take(elements(appended, DType::f32));
  plan.offsets = parts.take(elements(experts + 1, DType::i32));
  plan.tokens_per_expert = parts.take(elements(experts, DType::i32));
  plan.token_of_row = parts.take(elements(slots, DType::i32));
  plan.weight_of_row = parts.take(elements(layer.weight_on == WeightPlace::input ? slots : 0, DType::f32));
  plan.row_of_slot = parts.take(elements(slots, DType::i32));
  plan.sort_counts = parts.take(plan.sort.workspace_bytes);
  plan.converted_x = parts.take(converted_bytes(plan.gate_up, tokens));
  plan.gate_up_map = parts.take(plan.gate_up.tile_map_bytes);
  // Tiles of the same height are the same tiles.
  plan.down_map =
      plan.down.tile.rows == plan.gate_up.tile.rows ? plan.gate_up_map : parts.take(plan.down.tile_map_bytes);
  plan.inner = parts.take(elements(rows * plan.inner_pitch, plan.inner_dtype));
  plan.rows = parts.take(elements(rows * layer.hidden, plan.rows_dtype));
  plan.workspace_bytes = parts.end();
  return plan;
}

}  // namespace moe::gpu
