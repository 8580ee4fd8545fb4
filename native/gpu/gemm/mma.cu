// The grouped GEMM on tensor cores: a ring of stages filled by cp.async, ldmatrix, mma.sync. Fragments of 16-bit and of
// tf32 elements take the same bytes of a row, 32 per step of K, so one kernel serves all of them.
#include "gpu/gemm/mma.h"

#include <iterator>
#include <utility>

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

  __device__ explicit MmaTile(const GemmArguments& a) : a_(a), shared_(ptx::dynamic_shared<char>()) {}

  // Computes one tile and stores it.
  __device__ void compute(const RowTile& rows, int column_tile) {
    clear(sums_);
    if (rows.expert >= 0) {
      find_sources(rows, column_tile);
      multiply_all();
    }
    float* staged = reinterpret_cast<float*>(shared_);
    stage_fragments<kTile.columns>(staged, warp_row() * kWarpRows, warp_column() * kWarpColumns, sums_);
    finish_staged<kTile.columns>(a_, rows, column_tile, staged);
  }

 private:
  static constexpr int kWarpRows = kTile.rows / kTile.warps_rows;
  static constexpr int kWarpColumns = kTile.columns / kTile.warps_columns;
  static constexpr int kMmaRows = kWarpRows / 16;
  static constexpr int kMmaColumns = kWarpColumns / 8;
  static constexpr int kStageBytes = (kTile.rows + kTile.columns) * kTileRowBytes;
  using LoadWeight = StageLoad<kTile.columns, kThreads>;

  __device__ void find_sources(const RowTile& rows, int column_tile) {
    x_.find(a_, rows);
    const int64_t first_row = static_cast<int64_t>(column_tile) * kTile.columns;
    const int64_t left = a_.packed.rows - first_row;
    weight_rows_ = left < kTile.columns ? static_cast<int>(left) : kTile.columns;
    weight_ = packed_matrix(a_, rows.place) + first_row * a_.packed.pitch;
  }

  // Enqueues the copies of stage `k` of K. What lies outside x or the weights becomes zeros; packed rows are padded to
  // whole stages.
  __device__ void load_stage(int k) {
    char* stage = shared_ + k % kTile.stages * kStageBytes;
    x_.load(a_, k, stage);
    stage += kTile.rows * kTileRowBytes;
    const int64_t offset = static_cast<int64_t>(k) * kTileRowBytes + LoadWeight::chunk() * kChunkBytes;
#pragma unroll
    for (int i = 0; i < LoadWeight::kChunks; ++i) {
      const int row = LoadWeight::row(i);
      const bool exists = row < weight_rows_;
      const char* source = weight_ + (exists ? row * a_.packed.pitch : 0) + offset;
      ptx::cp_async_16_zfill(stage + swizzled_offset(row, LoadWeight::chunk()), source, exists ? kChunkBytes : 0);
    }
  }

  __device__ void multiply_all() {
    const int stages = stages_of<T>(a_.columns);
#pragma unroll
    for (int k = 0; k < kTile.stages - 1; ++k) {
      if (k < stages) load_stage(k);
      ptx::cp_async_commit();
    }
    for (int k = 0; k < stages; ++k) {
      ptx::cp_async_wait<kTile.stages - 2>();
      // Stage k has arrived for all threads, and all are done with stage k - 1, which the next copies overwrite.
      __syncthreads();
      if (k + kTile.stages - 1 < stages) load_stage(k + kTile.stages - 1);
      ptx::cp_async_commit();
      multiply_stage(shared_ + k % kTile.stages * kStageBytes);
    }
    ptx::cp_async_wait<0>();
    __syncthreads();
  }

  __device__ void multiply_stage(const char* x) {
    const char* weight = x + kTile.rows * kTileRowBytes;
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
  char* shared_;
  TileRows<T, kTile.rows, kThreads> x_;
  const char* weight_;
  int weight_rows_;
  float sums_[kMmaRows][kMmaColumns][4];
};

// The tile is passed by index: nvcc's host code cannot name a kernel with a template argument of class type.
template <class T, int kTileIndex>
MOE_KERNEL(gemm_mma_kernel, (kTiles<T>[kTileIndex].threads(), kTiles<T>[kTileIndex].blocks), const GemmArguments a) {
  MmaTile<T, kTileIndex> tile(a);
  for_each_tile(a, [&](const RowTile& rows, int column_tile) { tile.compute(rows, column_tile); });
}

template <class T, int kTileIndex>
Status launch_tile(const GemmArguments& arguments, const gpu::GemmPlan& plan, Stream stream) {
  return launch_gemm(gemm_mma_kernel<T, kTileIndex>, arguments, plan, stream);
}

template <class T, int... kIndices>
Status launch_all(const GemmArguments& arguments, const gpu::GemmPlan& plan, Stream stream,
                  std::integer_sequence<int, kIndices...>) {
  constexpr GemmLauncher kLaunchers[] = {launch_tile<T, kIndices>...};
  return kLaunchers[plan.tile_index](arguments, plan, stream);
}

template <class T>
Status launch_mma(const GemmArguments& arguments, const gpu::GemmPlan& plan, Stream stream) {
  return launch_all<T>(arguments, plan, stream, std::make_integer_sequence<int, std::size(kTiles<T>)>{});
}

}  // namespace

const GemmFunctions kMmaBF16{.launch = launch_mma<bf16>, .pack = pack_plain};
const GemmFunctions kMmaF16{.launch = launch_mma<f16>, .pack = pack_plain};
const GemmFunctions kMmaTF32{.launch = launch_mma<float>, .pack = pack_plain};

}  // namespace moe::MOE_GPU_NAMESPACE
