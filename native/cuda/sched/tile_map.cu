#include "cuda/sched/tile_map.cuh"

#include <climits>

#include <ptx/launch.cuh>

#include "cuda/tile/checked_id.cuh"
#include "cuda/tile/reduce.cuh"

namespace moe::MOE_GPU_NAMESPACE {
namespace {

constexpr int kMaxThreads = 1024;

struct Arguments {
  const int* offsets;
  TileMapHeader* map;
  int* first_tiles;  // [ranges + 1]: where the tiles of each range begin
  IdError* error;
  int experts;
  int rows;
  int tile_rows;
};

struct Shared {
  int first_bad;
  WarpSums warp_sums;
};

// The first offset that descends or lies outside 0 .. rows; experts + 1 where there is none. All threads get it.
__device__ int first_bad_offset(const Arguments& a) {
  int& first = ptx::shared<Shared>().first_bad;
  if (threadIdx.x == 0) first = a.experts + 1;
  __syncthreads();
  for (int i = static_cast<int>(threadIdx.x); i <= a.experts; i += static_cast<int>(blockDim.x)) {
    const int before = i > 0 ? a.offsets[i - 1] : 0;
    if (a.offsets[i] < before || a.offsets[i] > a.rows) atomicMin(&first, i);
  }
  __syncthreads();
  return first;
}

// Range 0 are the rows before the first expert's, range e + 1 those of expert e, the last range the rows behind.
__device__ __forceinline__ int range_begin(const Arguments& a, int range, int bad) {
  if (range == 0) return 0;
  const int offset = range - 1 < bad ? range - 1 : bad - 1;
  return offset < 0 ? 0 : a.offsets[offset];
}

__device__ __forceinline__ int range_end(const Arguments& a, int range, int bad) {
  return range == a.experts + 1 ? a.rows : range_begin(a, range + 1, bad);
}

// For one block.
__global__ void __launch_bounds__(kMaxThreads) tile_map_kernel(const Arguments a) {
  WarpSums& warp_sums = ptx::shared<Shared>().warp_sums;
  const int thread = static_cast<int>(threadIdx.x);
  const int threads = static_cast<int>(blockDim.x);
  const int ranges = a.experts + 2;
  const int bad = first_bad_offset(a);
  if (thread == 0 && bad <= a.experts) {
    a.error->low = bad > 0 ? a.offsets[bad - 1] : 0;
    report_id(a.error, bad, a.offsets[bad]);
  }

  int count = 0;
  for (int base = 0; base < ranges; base += threads) {
    const int range = base + thread;
    int tiles = 0;
    if (range < ranges) {
      const int rows = range_end(a, range, bad) - range_begin(a, range, bad);
      tiles = rows / a.tile_rows + (rows % a.tile_rows != 0);
    }
    int total;
    const int before = block_exclusive_sum(tiles, warp_sums, total);
    if (range < ranges) a.first_tiles[range] = count + before;
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
    int low = 0;
    int high = ranges;
    while (high - low > 1) {
      const int middle = low + (high - low) / 2;
      (a.first_tiles[middle] <= tile ? low : high) = middle;
    }
    const int first_row = range_begin(a, low, bad) + (tile - a.first_tiles[low]) * a.tile_rows;
    const int left = range_end(a, low, bad) - first_row;
    tiles[tile] = {low <= a.experts ? low - 1 : -1, first_row, left < a.tile_rows ? left : a.tile_rows, 0};
  }
}

}  // namespace

Status launch_tile_map(const int* offsets, int64_t experts, int64_t rows, int tile_rows, void* map,
                       gpu::IdError* error, int max_threads, Stream stream) {
  auto* header = static_cast<TileMapHeader*>(map);
  auto* tiles = reinterpret_cast<RowTile*>(header + 1);
  const int64_t max_tiles = gpu::max_row_tiles(rows, experts, tile_rows);
  const Arguments arguments{offsets, header, reinterpret_cast<int*>(tiles + max_tiles), error,
                            static_cast<int>(experts), static_cast<int>(rows), tile_rows};
  const int threads = max_threads < kMaxThreads ? max_threads : kMaxThreads;
  return launch("tile_map", tile_map_kernel, dim3(1), dim3(threads), 0, stream, arguments);
}

}  // namespace moe::MOE_GPU_NAMESPACE
