// The row tiles of a grouped GEMM: which expert, and which of its rows. Built on the device from the experts' offsets,
// so that the host need not read any count.
#pragma once

#include <cstddef>
#include <cstdint>

namespace moe::gpu {

struct alignas(16) RowTile {
  int expert;  // -1: rows without an expert, whose results are zeros
  int first_row;
  int rows;
  int place;  // the expert's, among those in memory
};

// In memory: the TileMapHeader; room for max_row_tiles RowTiles, the first `count` of them valid; and two tables of
// row_ranges + 1 ints that are used while the map is built, with the first row and the first tile of each range.
struct alignas(16) TileMapHeader {
  int count;
};

// Ranges of rows: before the first expert's, every expert's, after the last's.
constexpr int64_t row_ranges(int64_t experts) { return experts + 2; }

// The full tiles, and one more for each range that is not empty.
constexpr int64_t max_row_tiles(int64_t rows, int64_t experts, int64_t tile_rows) {
  return rows / tile_rows + (rows < row_ranges(experts) ? rows : row_ranges(experts));
}

constexpr size_t tile_map_bytes(int64_t rows, int64_t experts, int64_t tile_rows) {
  return sizeof(TileMapHeader) + static_cast<size_t>(max_row_tiles(rows, experts, tile_rows)) * sizeof(RowTile) +
         2 * static_cast<size_t>(row_ranges(experts) + 1) * sizeof(int);
}

// Where a map keeps the first row of each range, once it is built: expert e has range e + 1.
inline int* first_rows_of(void* map, int64_t rows, int64_t experts, int64_t tile_rows) {
  auto* tiles = reinterpret_cast<RowTile*>(static_cast<TileMapHeader*>(map) + 1);
  return reinterpret_cast<int*>(tiles + max_row_tiles(rows, experts, tile_rows));
}

}  // namespace moe::gpu
