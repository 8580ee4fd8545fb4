// The row tiles of a grouped GEMM: which expert, and which of its rows. Built on the device from the experts' offsets,
// so that no count has to be read by the host.
#pragma once

#include <cstddef>
#include <cstdint>

namespace moe::gpu {

struct alignas(16) RowTile {
  int expert;  // -1: rows of no expert, whose results are zeros
  int first_row;
  int rows;
  int unused;
};

// In memory: TileMapHeader, then room for max_row_tiles RowTiles, of which `count` are there, then two tables that are
// used while the map is built, of row_ranges + 1 ints each: where the rows, and where the tiles of each range begin.
struct alignas(16) TileMapHeader {
  int count;
};

// Ranges of rows: those before the first expert's, every expert's, those after the last's.
constexpr int64_t row_ranges(int64_t experts) { return experts + 2; }

// Full tiles, and one more for each range that is not empty.
constexpr int64_t max_row_tiles(int64_t rows, int64_t experts, int64_t tile_rows) {
  return rows / tile_rows + (rows < row_ranges(experts) ? rows : row_ranges(experts));
}

constexpr size_t tile_map_bytes(int64_t rows, int64_t experts, int64_t tile_rows) {
  return sizeof(TileMapHeader) + static_cast<size_t>(max_row_tiles(rows, experts, tile_rows)) * sizeof(RowTile) +
         2 * static_cast<size_t>(row_ranges(experts) + 1) * sizeof(int);
}

}  // namespace moe::gpu
