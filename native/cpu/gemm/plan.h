// How the rows of a grouped matrix product are cut into work. Pure functions of the sizes.
#pragma once

#include <cstdint>
#include <vector>

namespace moe::cpu {

// Consecutive rows of one expert, for one call of a tile kernel.
struct RowTile {
  int32_t expert;
  int32_t rows;
  int64_t first_row;
};

// Tiles of at most max_rows rows, as even as possible; offsets [experts + 1] are the experts' first rows.
std::vector<RowTile> plan_tiles(const int32_t* offsets, int64_t experts, int max_rows);

// A block of one expert's tiles times a range of its panels.
struct WorkItem {
  int64_t first_tile;
  int64_t tiles;
  int64_t first_panel;
  int64_t panels;
};

struct ProductPlan {
  // k is processed in blocks of k_block, so that a block of x rows and its part of a panel stay in the cache.
  int64_t k_block = 0;
  // Tiles and panels of the largest item.
  int64_t most_tiles = 0;
  int64_t most_panels = 0;
  // Whether there are so many blocks of rows that few of them have items on several threads.
  bool many_blocks = false;
  // In memory order: expert, rows, panels.
  std::vector<WorkItem> items;
};

// How large the parts of a product are that a kernel is fastest with.
struct Blocking {
  int64_t longest_k = 4096;                // that a tile is multiplied by at once
  int64_t sum_bytes = int64_t{512} << 10;  // of an item's sums that are kept from a block of k to the next
};

struct ProductSizes {
  int64_t padded_k;
  int64_t step;  // k is cut at multiples of this
  int64_t panels;
  // That tiles of few rows take at once, see WideTile.
  int64_t panels_at_once;
  // Bytes of one element of x as the kernels read it.
  int64_t x_bytes;
  // Bytes of the sums of a tile and a panel.
  int64_t tile_bytes;
  Blocking blocking;
  int threads;
};

// Whether the rows of a product with k of `columns`, if every expert has as many, are so few blocks of rows that
// packing each panel for each block takes less time than packing all panels before.
bool are_few_blocks(int64_t rows, int64_t experts, int64_t columns);

ProductPlan plan_product(const std::vector<RowTile>& tiles, const ProductSizes& sizes);

}  // namespace moe::cpu
