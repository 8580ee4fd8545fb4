// The device's side of a tile map: building it, and which tile a block takes next.
#pragma once

#include "gpu/gemm/tile_map.h"
#include "gpu/runtime/id_error.h"

#include <ptx/device.cuh>
#include <ptx/ld_st.cuh>

namespace moe::MOE_GPU_NAMESPACE {

using gpu::RowTile;
using gpu::TileMapHeader;

// Enqueues the building of the map of `rows` rows that offsets [experts + 1] cut into experts, in tiles of `tile_rows`,
// into memory of gpu::tile_map_bytes. An offset that descends or lies outside 0 .. rows counts as the one before it,
// and the first such is reported.
Status launch_tile_map(const int* offsets, int64_t experts, int64_t rows, int tile_rows, void* map, gpu::IdError* error,
                       int max_threads, Stream stream);

__device__ __forceinline__ const RowTile* row_tiles(const TileMapHeader* map) {
  return reinterpret_cast<const RowTile*>(map + 1);
}

struct TilePosition {
  int row_tile;
  int column_tile;
};

// The tiles in the order in which blocks take them: eight row tiles go through a column tile together, and so share its
// weights, and their own rows over the column tiles, in the L2 cache.
__device__ __forceinline__ TilePosition tile_position(int64_t index, int row_tile_count, int column_tiles) {
  constexpr int kGroup = 8;
  const int64_t tiles_per_group = static_cast<int64_t>(kGroup) * column_tiles;
  const int first = static_cast<int>(index / tiles_per_group) * kGroup;
  const int group = row_tile_count - first < kGroup ? row_tile_count - first : kGroup;
  const int within = static_cast<int>(index % tiles_per_group);
  return {first + within % group, within / group};
}

__device__ __forceinline__ RowTile load_row_tile(const TileMapHeader* map, int index) {
  const uint4 words = ptx::ld_global_128(row_tiles(map) + index);
  return {static_cast<int>(words.x), static_cast<int>(words.y), static_cast<int>(words.z), 0};
}

}  // namespace moe::MOE_GPU_NAMESPACE
