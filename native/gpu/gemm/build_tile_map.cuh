// Building a tile map, in one block.
#pragma once

#include <climits>

#include "gpu/gemm/tile_map.cuh"
#include "gpu/tile/checked_id.cuh"
#include "gpu/tile/reduce.cuh"

namespace moe::MOE_GPU_NAMESPACE {

struct TileMapShared {
  int first_bad;
  WarpTotals totals;
};

// Writes where each range's rows begin. An offset that descends or is outside 0 .. rows counts as the one before it.
__device__ __forceinline__ void check_offsets(const TileMapArguments& a, TileMapShared& shared) {
  const int thread = static_cast<int>(threadIdx.x);
  const int threads = static_cast<int>(blockDim.x);
  if (thread == 0) {
    shared.first_bad = INT_MAX;
    a.first_rows[0] = 0;
    a.first_rows[a.experts + 2] = a.rows;
  }
  __syncthreads();
  int highest = 0;
  for (int base = 0; base <= a.experts; base += threads) {
    const int index = base + thread;
    const int offset = index <= a.experts ? a.offsets[index] : 0;
    int total;
    const int scanned = block_inclusive_scan(offset <= a.rows ? offset : 0, Max{}, shared.totals, total);
    const int valid = scanned > highest ? scanned : highest;
    if (index <= a.experts) {
      a.first_rows[index + 1] = valid;
      if (offset != valid) atomicMin(&shared.first_bad, index);
    }
    highest = total > highest ? total : highest;
  }
  __syncthreads();
  const int bad = shared.first_bad;
  if (thread != 0 || bad == INT_MAX) return;
  a.error->low = a.first_rows[bad];
  report_id(a.error, bad, a.offsets[bad]);
}

// The expert of a range, among those of the group, or -1 if there is none.
__device__ __forceinline__ int expert_of(const TileMapArguments& a, int range) {
  return 1 <= range && range <= a.experts ? range - 1 - a.first_expert : -1;
}

__device__ __forceinline__ int place_of(const TileMapArguments& a, int range) {
  const int expert = expert_of(a, range);
  if (expert < 0) return -1;
  return a.places == nullptr ? a.first_place + expert : a.places[expert];
}

// Of a range of the group.
__device__ __forceinline__ bool is_mapped(const TileMapArguments& a, int range) {
  return expert_of(a, range) < 0 ? a.others : place_of(a, range) >= 0;
}

__device__ __forceinline__ void build_tile_map(const TileMapArguments& a) {
  TileMapShared& shared = ptx::shared<TileMapShared>();
  const int thread = static_cast<int>(threadIdx.x);
  const int threads = static_cast<int>(blockDim.x);
  const int ranges = a.experts + 2;
  check_offsets(a, shared);

  int count = 0;
  for (int base = 0; base < ranges; base += threads) {
    const int range = base + thread;
    int tiles = 0;
    if (a.first_range <= range && range < a.end_range && is_mapped(a, range)) {
      const int rows = a.first_rows[range + 1] - a.first_rows[range];
      tiles = rows / a.tile_rows + (rows % a.tile_rows != 0);
    }
    int total;
    const int inclusive = block_inclusive_scan(tiles, Sum{}, shared.totals, total);
    if (range < ranges) a.first_tiles[range] = count + inclusive - tiles;
    count += total;
  }
  if (thread == 0) {
    a.first_tiles[ranges] = count;
    a.map->count = count;
  }
  __syncthreads();

  auto* tiles = reinterpret_cast<RowTile*>(a.map + 1);
  for (int tile = thread; tile < count; tile += threads) {
    // The last range that begins at or before the tile.
    int range = 0;
    int end = ranges;
    while (end - range > 1) {
      const int middle = range + (end - range) / 2;
      (a.first_tiles[middle] <= tile ? range : end) = middle;
    }
    const int first_row = a.first_rows[range] + (tile - a.first_tiles[range]) * a.tile_rows;
    const int left = a.first_rows[range + 1] - first_row;
    tiles[tile] = {expert_of(a, range), first_row, left < a.tile_rows ? left : a.tile_rows, place_of(a, range)};
  }
}

}  // namespace moe::MOE_GPU_NAMESPACE
