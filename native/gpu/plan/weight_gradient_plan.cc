#include "gpu/plan/weight_gradient_plan.h"

#include <iterator>
#include <span>

#include "gpu/plan/plan_parts.h"

namespace moe::gpu {
namespace {

// More blocks than a multiprocessor holds, since experts have different numbers of rows.
constexpr int64_t kGradientBlocksPerMultiprocessor = 16;

int64_t tiles_of(const WeightGradientSizes& sizes, const GemmTile& tile) {
  return sizes.experts * ceil_divide(sizes.outputs, tile.rows) * ceil_divide(sizes.columns, tile.columns);
}

size_t ring_bytes(const GemmTile& tile, int depth, size_t element) {
  return static_cast<size_t>(tile.stages * depth * (tile.rows + tile.columns)) * element;
}

size_t mma_bytes(const GemmTile& tile) { return ring_bytes(tile, kWeightGradientMmaDepth, sizeof(bf16)); }

}  // namespace

WeightGradientPlan plan_weight_gradient(const WeightGradientSizes& sizes, const DeviceTraits& traits) {
  WeightGradientPlan plan;
  if (sizes.x == sizes.output_gradient && info(sizes.x).bytes == sizeof(bf16)) {
    const bool hopper = run_on(kHopper, traits);
    plan.kernel = hopper ? WeightGradientKernel::wgmma : WeightGradientKernel::mma;
    const std::span<const GemmTile> tiles =
        hopper ? std::span<const GemmTile>(kWeightGradientWgmmaTiles) : kWeightGradientMmaTiles;
    const auto fills = [&](const GemmTile& tile) {
      return tile.threads() <= traits.max_threads && mma_bytes(tile) <= traits.shared_per_block &&
             tiles_of(sizes, tile) >= int64_t{tile.blocks} * traits.multiprocessors;
    };
    while (plan.tile_index + 1 < std::ssize(tiles) && fills(tiles[static_cast<size_t>(plan.tile_index) + 1])) {
      ++plan.tile_index;
    }
    plan.tile = tiles[static_cast<size_t>(plan.tile_index)];
    plan.shared_bytes = mma_bytes(plan.tile);
  } else {
    plan.tile = kWeightGradientFmaTile;
    plan.shared_bytes = ring_bytes(plan.tile, kWeightGradientFmaDepth, sizeof(float));
  }
  plan.grid = capped_grid(tiles_of(sizes, plan.tile), kGradientBlocksPerMultiprocessor, traits);
  return plan;
}

}  // namespace moe::gpu
