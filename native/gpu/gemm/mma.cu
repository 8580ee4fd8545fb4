// The grouped GEMM on tensor cores: a ring of stages filled by cp.async, ldmatrix, mma.sync. Fragments of 16-bit and of
// tf32 elements take the same bytes of a row, 32 per step of K, so one kernel serves all of them.
#include "gpu/gemm/mma.h"

#include <iterator>

#include <ptx/ldmatrix.cuh>

#include "gpu/gemm/functions.cuh"
#include "gpu/gemm/mma_tile.cuh"
#include "gpu/gemm/pack.cuh"

namespace moe::MOE_GPU_NAMESPACE {
namespace {

using gpu::GemmTile;

// The tiles for one element type.
template <class T>
inline constexpr const auto& kTiles = gpu::kMmaTiles;
template <>
inline constexpr const auto& kTiles<float> = gpu::kMmaTF32Tiles;

template <class T, int kTileIndex>
class MmaTile {
 public:
  static constexpr GemmTile kTile = kTiles<T>[kTileIndex];
  static constexpr int kThreads = kTile.threads();

  __device__ explicit MmaTile(const GemmArguments& a) : a_(a), stages_(ptx::dynamic_shared<char>()) {}

  // Computes one tile and stores it.
  __device__ void compute(const RowTile& rows, int column_tile) {
    clear(sums_);
    if (rows.expert >= 0) {
      stages_.find(a_, rows, column_tile);
      multiply_all();
    }
    float* staged = ptx::dynamic_shared<float>();
    stage_fragments<kTile.columns>(staged, warp_row() * kWarpRows, warp_column() * kWarpColumns, sums_);
    finish_staged<kTile.columns>(a_, rows, column_tile, staged);
  }

 private:
  static constexpr int kWarpRows = kTile.rows / kTile.warps_rows;
  static constexpr int kWarpColumns = kTile.columns / kTile.warps_columns;
  static constexpr int kMmaRows = kWarpRows / 16;
  static constexpr int kMmaColumns = kWarpColumns / 8;
  using Stages = TileStages<T, kTile.rows, kTile.columns, kThreads, kTile.stages>;

  __device__ void multiply_all() {
    const int stages = stages_of<T>(a_.columns);
#pragma unroll
    for (int k = 0; k < kTile.stages - 1; ++k) {
      if (k < stages) stages_.load(a_, k);
      ptx::cp_async_commit();
    }
    for (int k = 0; k < stages; ++k) {
      ptx::cp_async_wait<kTile.stages - 2>();
      // Stage k has arrived for all threads, and all are done with stage k - 1, which the next copies overwrite.
      __syncthreads();
      const int next = k + kTile.stages - 1;
      if (next < stages) stages_.load(a_, next);
      ptx::cp_async_commit();
      multiply_stage(stages_.at(k));
    }
    ptx::cp_async_wait<0>();
    __syncthreads();
  }

  __device__ void multiply_stage(const char* x) {
    const char* weight = x + Stages::kWeightOffset;
    const int lane = static_cast<int>(threadIdx.x % 32);
    // The row and chunk that this lane addresses for ldmatrix. The four matrices go down the rows first for x, along
    // the chunks first for the weight.
    const int x_row = warp_row() * kWarpRows + lane % 16;
    const int x_chunk = lane / 16;
    const int weight_row = warp_column() * kWarpColumns + lane / 16 * 8 + lane % 8;
    const int weight_chunk = lane / 8 % 2;
#pragma unroll
    for (int step = 0; step < kStepsPerStage; ++step) {
      uint32_t b[kMmaColumns][2];
#pragma unroll
      for (int n = 0; n < kMmaColumns; n += 2) {
        uint32_t pair[4];
        ptx::ldmatrix_x4(pair, weight + swizzled_offset(weight_row + n * 8, step * 2 + weight_chunk));
        b[n][0] = pair[0];
        b[n][1] = pair[1];
        b[n + 1][0] = pair[2];
        b[n + 1][1] = pair[3];
      }
#pragma unroll
      for (int m = 0; m < kMmaRows; ++m) {
        uint32_t a[4];
        ptx::ldmatrix_x4(a, x + swizzled_offset(x_row + m * 16, step * 2 + x_chunk));
#pragma unroll
        for (int n = 0; n < kMmaColumns; ++n) multiply(sums_[m][n], a, b[n], T{});
      }
    }
  }

  __device__ static int warp_row() { return static_cast<int>(threadIdx.x / 32) / kTile.warps_columns; }
  __device__ static int warp_column() { return static_cast<int>(threadIdx.x / 32) % kTile.warps_columns; }

  const GemmArguments& a_;
  Stages stages_;
  float sums_[kMmaRows][kMmaColumns][4];
};

// The tile is passed by index: nvcc's host code cannot name a kernel with a template argument of class type.
template <class T, int kTileIndex>
MOE_KERNEL(gemm_mma_kernel, (kTiles<T>[kTileIndex].threads(), kTiles<T>[kTileIndex].blocks), const GemmArguments a) {
  MmaTile<T, kTileIndex> tile(a);
  for_each_tile(a, [&](const RowTile& rows, int column_tile) { tile.compute(rows, column_tile); });
}

template <class T>
Status launch_mma(const GemmArguments& arguments, const gpu::GemmPlan& plan, Stream stream) {
  return gpu::dispatch_index<std::size(kTiles<T>)>(plan.tile_index, [&](auto index) {
    return launch_gemm(gemm_mma_kernel<T, decltype(index)::value>, arguments, plan, stream);
  });
}

}  // namespace

const GemmFunctions kMmaBF16{.launch = launch_mma<bf16>, .pack = pack_plain};
const GemmFunctions kMmaF16{.launch = launch_mma<f16>, .pack = pack_plain};
const GemmFunctions kMmaTF32{.launch = launch_mma<float>, .pack = pack_plain};

}  // namespace moe::MOE_GPU_NAMESPACE
