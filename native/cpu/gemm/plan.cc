#include "cpu/gemm/plan.h"

#include <algorithm>
#include <numeric>

#include "core/divide.h"
#include "cpu/gemm/panel_scales.h"

namespace moe::cpu {

namespace {

// A work item keeps its rows of x in a core's second-level cache while panels stream through it.
constexpr int64_t kBlockBytes = int64_t{512} << 10;
// Items per thread: enough to even out the end of a phase, when threads wait for the slowest.
constexpr int64_t kItemsPerThread = 64;
// A tile that takes several panels at once gets them only if this many items per thread are left.
constexpr int64_t kFewestItemsPerThread = 8;

// With several blocks of k, an item's sums stay in the second-level cache from one block to the next. If its rows stay
// there too, with all their k, one panel after another reads them. If they are too long for that, only one block of k
// stays; then an item takes more panels than Blocking says, so that rows come from memory less often.
constexpr int64_t kLongRowBytes = int64_t{1} << 20;
constexpr int64_t kLongRowSumBytes = int64_t{1} << 20;
constexpr int64_t kLongRowItemsPerThread = 16;
// Rather than that, blocks have fewer rows, but not fewer than this, as each block reads all weights.
constexpr int64_t kFewestShortRows = 256;

// Consecutive items run on one thread, except where the threads' shares meet and at the end.
constexpr int64_t kManyBlocksPerThread = 4;

// Packing a panel that stays in the cache takes about a third of the time that it takes to write it to memory.
constexpr int64_t kFewBlocks = 3;

// Consecutive tiles of one expert, whose rows of x stay in the cache together.
struct TileBlock {
  int64_t first, count;
};

struct TileBlocks {
  std::vector<TileBlock> list;
  int64_t most_tiles = 0;
  int64_t most_rows = 0;
};

// k is cut into equal blocks of whole steps. They are the same for every instruction set, because groups of k are
// scaled at their ends.
int64_t block_of_k(const ProductSizes& sizes, int64_t blocks) {
  const int64_t unit = std::lcm<int64_t>(kLongestSum, sizes.step);
  const int64_t even = ceil_divide(sizes.padded_k, std::max<int64_t>(1, blocks));
  return std::max(unit, round_up(even, unit));
}

int64_t rows_of_block(int64_t row_bytes) { return kBlockBytes / std::max<int64_t>(1, row_bytes); }

// The most rows of a block.
int64_t most_rows_of_block(const ProductSizes& sizes, int64_t k_block) {
  const int64_t rows = rows_of_block(k_block * sizes.x_bytes);
  const int64_t short_rows = kLongRowBytes / std::max<int64_t>(1, sizes.padded_k * sizes.x_bytes);
  return short_rows < kFewestShortRows ? rows : std::min(rows, short_rows);
}

// Cuts `total` into the fewest parts of at most `most`, whose sizes differ by at most one: calls part(first, size).
template <class Part>
void cut_evenly(int64_t total, int64_t most, Part&& part) {
  const int64_t count = ceil_divide(total, most);
  for (int64_t i = 0, first = 0; i < count; ++i) {
    const int64_t size = total / count + (i < total % count ? 1 : 0);
    part(first, size);
    first += size;
  }
}

// Blocks of at most block_rows rows, unless a tile has more, as even as possible.
TileBlocks plan_blocks(const std::vector<RowTile>& tiles, int64_t block_rows) {
  TileBlocks blocks;
  const int64_t total = std::ssize(tiles);
  for (int64_t first = 0, end; first < total; first = end) {
    int64_t most_rows = 1;
    for (end = first; end < total && tiles[end].expert == tiles[first].expert; ++end) {
      most_rows = std::max<int64_t>(most_rows, tiles[end].rows);
    }
    cut_evenly(end - first, std::max<int64_t>(1, block_rows / most_rows), [&](int64_t begin, int64_t size) {
      blocks.list.push_back({first + begin, size});
      blocks.most_rows = std::max(blocks.most_rows, size * most_rows);
      blocks.most_tiles = std::max(blocks.most_tiles, size);
    });
  }
  return blocks;
}

// Panels of an item, at least 1.
int64_t panels_of_item(const TileBlocks& blocks, const ProductSizes& sizes, int64_t blocks_of_k) {
  const int64_t pieces = std::ssize(blocks.list) * sizes.panels;
  int64_t items_per_thread = kItemsPerThread, most = sizes.panels;
  if (blocks_of_k > 1) {
    const bool long_rows = blocks.most_rows * sizes.padded_k * sizes.x_bytes > kLongRowBytes;
    if (long_rows) items_per_thread = kLongRowItemsPerThread;
    const int64_t panel_sums = std::max<int64_t>(1, blocks.most_tiles * sizes.tile_bytes);
    most = std::min(most, (long_rows ? kLongRowSumBytes : sizes.blocking.sum_bytes) / panel_sums);
  }
  most = std::max<int64_t>(1, most);
  const int64_t panels = std::clamp<int64_t>(pieces / (sizes.threads * items_per_thread), 1, most);
  if (panels > sizes.panels_at_once) return panels - panels % sizes.panels_at_once;
  const bool many_pieces = pieces >= sizes.panels_at_once * sizes.threads * kFewestItemsPerThread;
  return many_pieces ? std::min(sizes.panels_at_once, most) : panels;
}

}  // namespace

std::vector<RowTile> plan_tiles(const int32_t* offsets, int64_t experts, int max_rows) {
  std::vector<RowTile> tiles;
  for (int64_t expert = 0; expert < experts; ++expert) {
    const int64_t first = offsets[expert];
    cut_evenly(offsets[expert + 1] - first, max_rows, [&](int64_t begin, int64_t size) {
      tiles.push_back({static_cast<int32_t>(expert), static_cast<int32_t>(size), first + begin});
    });
  }
  return tiles;
}

bool are_few_blocks(int64_t rows, int64_t experts, int64_t columns) {
  const int64_t row_bytes = int64_t{sizeof(float)} * columns;
  return rows <= kFewBlocks * experts * rows_of_block(row_bytes);
}

ProductPlan plan_product(const std::vector<RowTile>& tiles, const ProductSizes& sizes) {
  const int64_t blocks_of_k = ceil_divide(sizes.padded_k, sizes.blocking.longest_k);
  ProductPlan plan;
  plan.k_block = block_of_k(sizes, blocks_of_k);
  const TileBlocks blocks = plan_blocks(tiles, most_rows_of_block(sizes, plan.k_block));
  plan.most_tiles = blocks.most_tiles;
  plan.many_blocks = std::ssize(blocks.list) >= kManyBlocksPerThread * sizes.threads;
  plan.most_panels = panels_of_item(blocks, sizes, blocks_of_k);
  for (const TileBlock& block : blocks.list) {
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
