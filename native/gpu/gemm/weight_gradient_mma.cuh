// The gradient of weights by mma: ldmatrix transposes both operands.
#pragma once

#include <ptx/ldmatrix.cuh>

#include "gpu/gemm/weight_gradient_tile.cuh"

namespace moe::MOE_GPU_NAMESPACE {

template <class T, int kTileIndex>
class WeightGradientMmaTile : public WeightGradientTile<T, gpu::kWeightGradientMmaTiles[kTileIndex]> {
  using Tile = WeightGradientTile<T, gpu::kWeightGradientMmaTiles[kTileIndex]>;

 public:
  using Tile::kTile;

  __device__ explicit WeightGradientMmaTile(const WeightGradientArguments& a) : Tile(a) {}

  __device__ void compute(const WeightGradientRectangle& rectangle) {
    this->start(rectangle);
    multiply_all();
    this->store_sums();
  }

 private:
  static constexpr int kMmaDepth = 16;
  using Tile::kDepth, Tile::kMmaColumns, Tile::kMmaRows, Tile::kWarpColumns, Tile::kWarpOutputs;
  using Tile::sums_, Tile::warp_column, Tile::warp_row;
  using typename Tile::Columns, typename Tile::Outputs;

  __device__ void multiply_all() {
    const int stages = this->stages();
#pragma unroll
    for (int stage = 0; stage < kTile.stages - 1; ++stage) {
      if (stage < stages) this->load(stage);
      ptx::cp_async_commit();
    }
    for (int stage = 0; stage < stages; ++stage) {
      ptx::cp_async_wait<kTile.stages - 2>();
      // This stage has arrived for all threads, and all are done with the one before it, which the next copies
      // overwrite.
      __syncthreads();
      const int next = stage + kTile.stages - 1;
      if (next < stages) this->load(next);
      ptx::cp_async_commit();
      multiply_stage(this->at(stage));
    }
    ptx::cp_async_wait<0>();
    __syncthreads();
  }

  __device__ void multiply_stage(const char* outputs) {
    const char* columns = outputs + Outputs::kBytes;
    const int lane = static_cast<int>(threadIdx.x % 32);
    // The row and chunk that this lane addresses for ldmatrix. The four matrices go along the outputs first for dy,
    // down the rows first for x.
    const int output_row = lane / 16 * 8 + lane % 8;
    const int output_chunk = warp_row() * (kWarpOutputs / 8) + lane / 8 % 2;
    const int column_row = lane / 8 % 2 * 8 + lane % 8;
    const int column_chunk = warp_column() * (kWarpColumns / 8) + lane / 16;
#pragma unroll
    for (int step = 0; step < kDepth / kMmaDepth; ++step) {
      uint32_t b[kMmaColumns][2];
#pragma unroll
      for (int n = 0; n < kMmaColumns; n += 2) {
        uint32_t pair[4];
        ptx::ldmatrix_x4_trans(pair, columns + Columns::place(step * kMmaDepth + column_row, column_chunk + n));
        b[n][0] = pair[0];
        b[n][1] = pair[1];
        b[n + 1][0] = pair[2];
        b[n + 1][1] = pair[3];
      }
#pragma unroll
      for (int m = 0; m < kMmaRows; ++m) {
        uint32_t a[4];
        ptx::ldmatrix_x4_trans(a, outputs + Outputs::place(step * kMmaDepth + output_row, output_chunk + m * 2));
#pragma unroll
        for (int n = 0; n < kMmaColumns; ++n) multiply(sums_[m][n], a, b[n], T{});
      }
    }
  }
};

}  // namespace moe::MOE_GPU_NAMESPACE
