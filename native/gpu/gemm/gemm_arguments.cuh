// The arguments of the grouped GEMM kernels, and how they find the rows of a tile.
#pragma once

#include "gpu/gemm/tile_map.cuh"
#include "gpu/gemm/weight_layout.h"
#include "gpu/tile/checked_id.cuh"
#include "gpu/tile/epilogue.cuh"

#include <ptx/device.cuh>

namespace moe::MOE_GPU_NAMESPACE {

// A code of e4m3, where rows of x are bytes; int8_t is one of integers.
struct fp8 {
  uint8_t bits;
};

// The left operand: all rows of x, or those that token_of_row names.
struct GemmInput {
  const void* x;  // [rows, pitch] of the plan's x_dtype; bytes are codes as launch_gather_inputs writes them
  int64_t rows;
  const int* token_of_row = nullptr;  // [R]; null: row r of the product is row r of x
  IdError* token_error = nullptr;
  // [groups][rows]: multiply codes of x, in the groups of columns of the weights' scales. Null: nothing does.
  const float* scales = nullptr;
};

struct GemmArguments {
  GemmInput input;
  int64_t x_pitch;     // elements
  int columns;         // K
  const void* weight;  // packed.bytes per place
  gpu::PackedMatrix packed;
  WeightFormat format;  // of the weights; its name is in the host's memory
  const TileMapHeader* map;
  int column_tiles;
  Epilogue epilogue;
};

// Which row of x row `row` of the product is, unchecked: a load that later ones need not wait for.
__device__ __forceinline__ int64_t source_index(const GemmInput& input, int64_t row) {
  return input.token_of_row == nullptr ? row : input.token_of_row[row];
}

// The row of x that source_index(row) found, or null if it has no token.
template <class T>
__device__ __forceinline__ const T* source_row(const GemmArguments& a, int64_t row, int64_t index) {
  const GemmInput& input = a.input;
  if (input.token_of_row != nullptr) {
    index = checked_id(static_cast<int>(index), input.rows, row, input.token_error);
  }
  return index < 0 ? nullptr : static_cast<const T*>(input.x) + index * a.x_pitch;
}

// Whether row `row`, of one of `expert`'s tiles, has an expert and a token.
__device__ __forceinline__ bool row_exists(const GemmArguments& a, int expert, int64_t row) {
  if (expert < 0) return false;
  if (a.input.token_of_row == nullptr) return true;
  const int64_t token = source_index(a.input, row);
  return token >= 0 && token < a.input.rows;
}

// Brings a tile's sums from shared memory to y; see finish_tile() for how they stand there. All threads are done with
// shared memory afterwards.
template <int kTileColumns>
__device__ __forceinline__ void finish_staged(const GemmArguments& a, const RowTile& rows, int column_tile,
                                              const float* staged) {
  __syncthreads();
  finish_tile<kTileColumns>(a.epilogue, rows.expert, rows.first_row, rows.rows, column_tile, staged,
                            [&](int64_t row) { return row_exists(a, rows.expert, row); });
  __syncthreads();
}

// The packed matrix at a place; see RowTile.
__device__ __forceinline__ const char* packed_matrix(const GemmArguments& a, int place) {
  return static_cast<const char*>(a.weight) + place * a.packed.bytes;
}

// Calls use(row tile, column tile) for each of this block's tiles.
template <class Use>
__device__ __forceinline__ void for_each_tile(const GemmArguments& a, Use&& use) {
  for (int64_t index = blockIdx.x;; index += gridDim.x) {
    // Read again for every tile, so that no register holds it meanwhile.
    const int row_tile_count = a.map->count;
    if (index >= static_cast<int64_t>(row_tile_count) * a.column_tiles) return;
    const TilePosition position = tile_position(index, row_tile_count, a.column_tiles);
    use(load_row_tile(a.map, position.row_tile), position.column_tile);
  }
}

}  // namespace moe::MOE_GPU_NAMESPACE
