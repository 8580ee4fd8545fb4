// The device side of a tile map: building it, and finding a block's next tile.
#pragma once

#include "core/layer/description.h"
#include "gpu/gemm/tile_map.h"
#include "gpu/runtime/id_error.h"

#include <ptx/device.cuh>
#include <ptx/ld_st.cuh>

namespace moe::MOE_GPU_NAMESPACE {

using gpu::RowTile;
using gpu::TileMapHeader;

// Rows that offsets [experts + 1] divide among experts. An offset that descends or is outside 0 .. rows counts as the
// one before it; the first such offset is reported.
struct DividedRows {
  const int* offsets;
  int64_t experts;
  int64_t rows;
};

// Whose rows are in a tile map.
struct MappedExperts {
  // The first of these experts is 0 in the map. Rows before the first expert's and after the last's go to the groups
  // that have these experts.
  ExpertRange group;
  // [group.count]: where an expert's matrix is among those in memory, -1 if its rows are not in the map. Null: all are,
  // and their matrices in order, the first one's at `first_place`.
  const int* places = nullptr;
  int first_place = 0;
  // Whether the group's rows without an expert are in the map.
  bool others = true;
};

// Range 0 holds the rows before the first expert's, range e + 1 those of expert e, and the last range the rows after
// the last expert's.
struct TileMapArguments {
  const int* offsets;
  const int* places;  // see MappedExperts
  int first_place;
  TileMapHeader* map;
  int* first_rows;   // [ranges + 1]
  int* first_tiles;  // [ranges + 1]
  gpu::IdError* error;
  int experts;
  int rows;
  int tile_rows;
  int first_expert;            // of the group
  int first_range, end_range;  // its own
  bool others;                 // see MappedExperts
};

// Of a tile map with tiles of `tile_rows`, in memory of gpu::tile_map_bytes.
TileMapArguments tile_map_arguments(const DividedRows& divided, const MappedExperts& mapped, int tile_rows, void* map,
                                    gpu::IdError* error);

// Enqueues the building of the map.
Status launch_tile_map(const TileMapArguments& arguments, int max_threads, Stream stream);

__device__ __forceinline__ const RowTile* row_tiles(const TileMapHeader* map) {
  return reinterpret_cast<const RowTile*>(map + 1);
}

struct TilePosition {
  int row_tile;
  int column_tile;
};

// The order in which blocks take the tiles. Eight row tiles go through a column tile together, so the L2 cache serves
// its weights to all of them, and their own rows for all column tiles.
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
  return {static_cast<int>(words.x), static_cast<int>(words.y), static_cast<int>(words.z), static_cast<int>(words.w)};
}

}  // namespace moe::MOE_GPU_NAMESPACE
