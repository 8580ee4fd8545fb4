#include "cpu/gemm/plan.h"

#include <algorithm>
#include <numeric>

#include "core/divide.h"
#include "cpu/gemm/panel_scales.h"

namespace moe::cpu {

namespace {

// Bytes of x that an item may keep in a core's second-level cache, beside the panels that stream through it.
constexpr int64_t kBlockBytes = int64_t{512} << 10;
// Items per thread: enough to even out the end of a phase, when threads wait for the slowest.
constexpr int64_t kItemsPerThread = 64;
// At least as many, before panels are gathered for a tile that takes several at once.
constexpr int64_t kFewestItemsPerThread = 8;

// With several blocks of k, sums are kept between them, in the second-level cache too. Rows that stay there with all
// their k are read by one panel after another. Of longer rows only a block does: then many panels read it, so that
// rows come from memory seldom.
constexpr int64_t kLongRowBytes = int64_t{1} << 20;
constexpr int64_t kSumBytes = int64_t{512} << 10;
constexpr int64_t kLongRowSumBytes = int64_t{1} << 20;
constexpr int64_t kLongRowItemsPerThread = 16;

}  // namespace

std::vector<RowTile> plan_tiles(const int32_t* offsets, int64_t experts, int max_rows) {
  std::vector<RowTile> tiles;
  for (int64_t expert = 0; expert < experts; ++expert) {
    const int64_t rows = int64_t{offsets[expert + 1]} - offsets[expert];
    const int64_t count = ceil_divide(rows, max_rows);
    int64_t row = offsets[expert];
    for (int64_t i = 0; i < count; ++i) {
      const int64_t size = rows / count + (i < rows % count ? 1 : 0);
      tiles.push_back({static_cast<int32_t>(expert), static_cast<int32_t>(size), row});
      row += size;
    }
  }
  return tiles;
}

ProductPlan plan_product(const std::vector<RowTile>& tiles, const ProductSizes& sizes) {
  ProductPlan plan;
  const int64_t blocks_of_k = ceil_divide(sizes.padded_k, sizes.longest_k);
  // Blocks of equal size, in whole steps: the same whatever the instruction set, as the sums of whole groups are
  // scaled.
  const int64_t unit = std::lcm<int64_t>(kLongestSum, sizes.step);
  const int64_t even = ceil_divide(sizes.padded_k, std::max<int64_t>(1, blocks_of_k));
  plan.k_block = std::max(unit, round_up(even, unit));
  const int64_t block_rows = std::max<int64_t>(1, kBlockBytes / std::max<int64_t>(1, plan.k_block * sizes.x_bytes));

  struct Block {
    int64_t first, count;
  };
  std::vector<Block> blocks;
  int64_t most_rows = 0;
  const int64_t total = static_cast<int64_t>(tiles.size());
  for (int64_t first = 0; first < total;) {
    int64_t end = first + 1;
    int64_t rows = tiles[first].rows;
    while (end < total && tiles[end].expert == tiles[first].expert && rows + tiles[end].rows <= block_rows) {
      rows += tiles[end++].rows;
    }
    blocks.push_back({first, end - first});
    most_rows = std::max(most_rows, rows);
    plan.most_tiles = std::max(plan.most_tiles, end - first);
    first = end;
  }

  const int64_t pieces = static_cast<int64_t>(blocks.size()) * sizes.panels;
  int64_t items_per_thread = kItemsPerThread, most_panels = sizes.panels;
  if (blocks_of_k > 1) {
    const bool long_rows = most_rows * sizes.padded_k * sizes.x_bytes > kLongRowBytes;
    if (long_rows) items_per_thread = kLongRowItemsPerThread;
    const int64_t panel_sums = std::max<int64_t>(1, plan.most_tiles * sizes.tile_bytes);
    most_panels = std::min(most_panels, (long_rows ? kLongRowSumBytes : kSumBytes) / panel_sums);
  }
  plan.most_panels =
      std::clamp<int64_t>(pieces / (sizes.threads * items_per_thread), 1, std::max<int64_t>(1, most_panels));
  if (plan.most_panels > sizes.panels_at_once) {
    plan.most_panels -= plan.most_panels % sizes.panels_at_once;
  } else if (pieces >= sizes.panels_at_once * sizes.threads * kFewestItemsPerThread) {
    plan.most_panels = std::min(sizes.panels_at_once, most_panels);
  }
  for (const Block& block : blocks) {
    for (int64_t panel = 0; panel < sizes.panels; panel += plan.most_panels) {
      plan.items.push_back({.first_tile = block.first,
                            .tiles = block.count,
                            .first_panel = panel,
                            .panels = std::min(plan.most_panels, sizes.panels - panel)});
    }
  }
  return plan;
}

}  // namespace moe::cpu
