#include "gpu/plan/plan.h"

#include <algorithm>
#include <iterator>

#include "core/operators/routing_gradients.h"
#include "gpu/plan/plan_parts.h"

namespace moe::gpu {
namespace {

constexpr int64_t kWarp = 32;
// Of experts' matrices.
constexpr int64_t kMostColumns = int64_t{1} << 30;

}  // namespace

unsigned row_grid(int64_t rows, const DeviceTraits& traits) {
  return capped_grid(ceil_divide(rows, kRowThreads / kWarp), kBlocksPerMultiprocessor, traits);
}

int wide_row_threads(int64_t columns, int columns_per_thread, const DeviceTraits& traits) {
  const int64_t most = std::min(kWideRowThreads, traits.max_threads);
  return static_cast<int>(std::clamp(round_up(ceil_divide(columns, columns_per_thread), kWarp), kWarp, most));
}

unsigned wide_row_grid(int64_t rows, const DeviceTraits& traits) {
  return capped_grid(rows, kBlocksPerMultiprocessor, traits);
}

unsigned blocks_of_row(int64_t rows, int64_t per_multiprocessor, int64_t parts, const DeviceTraits& traits) {
  const int64_t useful = std::clamp(ceil_divide(parts, kRowThreads / kWarp), int64_t{1}, kMaxGridY);
  const int64_t room = per_multiprocessor * traits.multiprocessors / std::max(rows, int64_t{1});
  return static_cast<unsigned>(std::clamp(room, int64_t{1}, useful));
}

unsigned element_grid(int64_t elements, const DeviceTraits& traits) {
  return capped_grid(ceil_divide(elements, kRowThreads), kBlocksPerMultiprocessor, traits);
}

int access_width(std::initializer_list<uint64_t> addresses_and_lengths) {
  uint64_t bits = 16;
  for (const uint64_t value : addresses_and_lengths) bits |= value;
  return static_cast<int>(bits & (~bits + 1));
}

RouterPlan plan_router(const RouterSizes& sizes, const DeviceTraits& traits) {
  const auto shared_bytes = [&](const RouterTile& tile) {
    return static_cast<size_t>(tile.shared_bytes(sizes.x_bytes, sizes.weight_bytes));
  };
  const auto blocks = [&](const RouterTile& tile) {
    return ceil_divide(sizes.tokens, tile.block_tokens()) * ceil_divide(sizes.experts, tile.block_experts());
  };
  // Of the multiprocessor with the most blocks, for 128 columns. In a cycle it gets about 32 bytes from L2 and does 128
  // multiply-adds, which a warp also does for the rows that its tile has too many.
  const auto cycles = [&](const RouterTile& tile) {
    const int64_t tokens = std::min<int64_t>(tile.block_tokens(), sizes.tokens);
    const int64_t experts = std::min<int64_t>(tile.block_experts(), sizes.experts);
    const int64_t reads = (tokens * sizes.x_bytes + experts * sizes.weight_bytes) * 128 / 32;
    const int64_t products = round_up(tokens, tile.tokens) * round_up(experts, tile.experts);
    return ceil_divide(blocks(tile), traits.multiprocessors) * std::max(reads, products);
  };
  int best = kRouterTileOfAnyRows;
  if (sizes.whole_vectors) {
    best = 0;
    for (int tile = 1; tile < static_cast<int>(std::size(kRouterTiles)); ++tile) {
      const bool fits = shared_bytes(kRouterTiles[tile]) <= traits.shared_per_block;
      if (fits && cycles(kRouterTiles[tile]) < cycles(kRouterTiles[best])) best = tile;
    }
  }
  return {best, capped_grid(blocks(kRouterTiles[best]), kBlocksPerMultiprocessor, traits),
          shared_bytes(kRouterTiles[best])};
}

RouterGradientPlan plan_router_gradient(int64_t tokens, int64_t experts, int64_t hidden) {
  // Enough threads for the largest GPUs.
  constexpr int64_t kThreads = int64_t{1} << 17;
  const int64_t tiles =
      ceil_divide(experts, RouterGradientTile::kRows) * ceil_divide(hidden, RouterGradientTile::kColumns);
  const int64_t blocks = std::max(ceil_divide(tokens, kGradientBlock), int64_t{1});
  const int64_t wanted = std::clamp(kThreads / std::max(tiles, int64_t{1}), int64_t{1}, blocks);
  const int64_t blocks_per_split = ceil_divide(blocks, wanted);
  RouterGradientPlan plan{};
  plan.splits = ceil_divide(blocks, blocks_per_split);
  plan.tokens_per_split = blocks_per_split * kGradientBlock;
  if (plan.splits > 1) plan.workspace_bytes = static_cast<size_t>(plan.splits * experts * hidden) * sizeof(float);
  return plan;
}

GatingPlan plan_gating(int64_t tokens, int64_t experts, const DeviceTraits& traits) {
  const int64_t needed = ceil_divide(experts, kWarp);
  const int per_lane = needed <= 2 ? 2 : needed <= 8 ? 8 : needed <= 32 ? 32 : 0;
  return {per_lane, capped_grid(ceil_divide(tokens, kGatingThreads / kWarp), kBlocksPerMultiprocessor, traits)};
}

SortPlan plan_sort(int64_t slots, int64_t experts, const DeviceTraits& traits) {
  // Up to this many slots, one warp's part is faster than two more launches.
  constexpr int64_t kSlotsPerWarp = 256;
  constexpr int64_t kMaxUnits = 256;
  constexpr int64_t kMaxCounts = int64_t{1} << 24;
  // Without experts, which a layer's bank may lack, there is nothing to count, but offsets are still written.
  const int64_t counts = std::max(experts, int64_t{1});
  const int64_t count_bytes = counts * static_cast<int64_t>(sizeof(int));
  const int64_t warps_that_fit = (static_cast<int64_t>(kUnaskedShared) - kStaticShared) / count_bytes;

  SortPlan plan{};
  plan.scan_threads = std::min(kSortScanThreads, traits.max_threads);
  const int64_t max_warps = std::min(kSortThreads, traits.max_threads) / kWarp;
  const int64_t warps = std::min({max_warps, std::max(ceil_divide(slots, kWarp), int64_t{1}), warps_that_fit});
  if (warps > 0 && slots <= warps * kSlotsPerWarp) {
    plan.single_block = true;
    plan.grid = 1;
    plan.units = static_cast<int>(warps);
    plan.slots_per_unit = round_up(ceil_divide(slots, warps), kWarp);
    // A thread for every expert too, where the experts' counts are summed.
    plan.threads = static_cast<int>(std::max(warps, std::min(ceil_divide(experts, kWarp), max_warps)) * kWarp);
    plan.shared_bytes = static_cast<size_t>(warps * count_bytes);
    return plan;
  }
  const int64_t max_units = std::clamp(kMaxCounts / counts, int64_t{1}, kMaxUnits);
  plan.slots_per_unit = std::max(kSlotsPerWarp, round_up(ceil_divide(slots, max_units), kWarp));
  plan.units = static_cast<int>(std::max(ceil_divide(slots, plan.slots_per_unit), int64_t{1}));
  const int64_t warps_per_block = warps_that_fit > 0 ? std::min(warps_that_fit, int64_t{4}) : 4;
  plan.threads = static_cast<int>(warps_per_block * kWarp);
  plan.grid = static_cast<unsigned>(ceil_divide(plan.units, warps_per_block));
  plan.shared_bytes = warps_that_fit > 0 ? static_cast<size_t>(warps_per_block * count_bytes) : 0;
  plan.workspace_bytes = static_cast<size_t>(plan.units * count_bytes);
  return plan;
}

bool gates_in_block(int64_t tokens, const SortPlan& sort, const DeviceTraits& traits) {
  const int warps = std::min(kRouteThreads, traits.max_threads) / kWarp;
  return sort.single_block && tokens <= 2 * warps && sort.units <= warps;
}

bool fills_in_block(int64_t slots, const SortPlan& sort) { return sort.single_block && slots <= 2 * sort.threads; }

int route_threads(const SortPlan& sort, int64_t ranges, const DeviceTraits& traits) {
  const int most = std::min(kSortThreads, traits.max_threads);
  return static_cast<int>(std::min<int64_t>(std::max<int64_t>(sort.threads, round_up(ranges, kWarp)), most));
}

int route_threads_with_gating(const SortPlan& sort, int64_t ranges, int64_t tokens, const DeviceTraits& traits) {
  const int64_t useful = std::max<int64_t>(route_threads(sort, ranges, traits), tokens * kWarp);
  return static_cast<int>(std::min<int64_t>(useful, kRouteThreads));
}

ColumnPlan plan_columns(int64_t rows, int64_t columns, int columns_per_thread, const DeviceTraits& traits) {
  const int64_t vectors = ceil_divide(columns, columns_per_thread);
  const int64_t threads = std::clamp(round_up(vectors, kWarp), kWarp, int64_t{kRowThreads});
  return {static_cast<int>(threads), capped_grid(rows, 2 * kBlocksPerMultiprocessor, traits),
          static_cast<unsigned>(std::min(ceil_divide(vectors, threads), kMaxGridY))};
}

Status check_rows(const char* parameter, int64_t rows) {
  if (rows < int64_t{1} << 31) return {};
  return {Code::invalid_argument, std::string(parameter) + ": expected fewer than 2^31 (token, slot) pairs, got " +
                                      std::to_string(rows) + ": split the tokens"};
}

Status check_columns(int64_t columns) {
  if (columns < kMostColumns) return {};
  return {Code::invalid_argument, "experts: expected matrices of fewer than 2^30 columns, got " +
                                      std::to_string(columns) + ": split them, and add up the results"};
}

}  // namespace moe::gpu
