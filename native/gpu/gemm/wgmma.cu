// The grouped GEMM on Hopper's tensor cores: a ring of stages filled by cp.async, which wgmma reads in the background.
#include "gpu/gemm/wgmma.h"

#include <iterator>

#include <ptx/wgmma.cuh>

#include "gpu/gemm/functions.cuh"
#include "gpu/gemm/mma_tile.cuh"
#include "gpu/gemm/pack.cuh"
#include "gpu/gemm/wgmma_products.cuh"

namespace moe::MOE_GPU_NAMESPACE {
namespace {

using gpu::GemmTile;

template <class T, int kTileIndex>
class WgmmaTile {
 public:
  static constexpr GemmTile kTile = gpu::kWgmmaTiles[kTileIndex];

  __device__ explicit WgmmaTile(const GemmArguments& a) : a_(a), stages_(ptx::dynamic_shared<char>()) {
    ptx::wgmma_check_base(ptx::dynamic_shared<char>());
  }

  // Computes one tile and stores it.
  __device__ void compute(const RowTile& rows, int column_tile) {
    clear(sums_);
    if (rows.expert >= 0) {
      stages_.find(a_, rows, column_tile);
      multiply_all();
    }
    float* staged = ptx::dynamic_shared<float>();
    stage_fragments<kTile.columns>(staged, static_cast<int>(threadIdx.x / 32) * kWarpRows, 0, sums_);
    finish_staged<kTile.columns>(a_, rows, column_tile, staged);
  }

 private:
  static constexpr int kWarpRows = 16, kGroupRows = 64;
  static_assert(kTile.warps_columns == 1 && kTile.rows == kTile.warps_rows * kWarpRows);
  // Stages on their way while one is multiplied and another may still be.
  static constexpr int kAhead = kTile.stages - 2;
  using Stages = TileStages<T, kTile.rows, kTile.columns, kTile.threads(), kTile.stages>;

  __device__ void multiply_all() {
    const int stages = stages_of<T>(a_.columns);
#pragma unroll
    for (int k = 0; k < kAhead; ++k) {
      if (k < stages) stages_.load(a_, k);
      ptx::cp_async_commit();
    }
    ptx::wgmma_keep(sums_[0]);
    for (int k = 0; k < stages; ++k) {
      ptx::cp_async_wait<kAhead - 1>();
      ptx::fence_proxy_async();
      // Stage k has arrived for all threads, and all have waited for the products of stage k - 2, which the next copies
      // overwrite.
      __syncthreads();
      multiply_stage(stages_.at(k));
      ptx::wgmma_wait<1>();
      if (k + kAhead < stages) stages_.load(a_, k + kAhead);
      ptx::cp_async_commit();
    }
    ptx::wgmma_wait<0>();
    ptx::wgmma_keep(sums_[0]);
    ptx::cp_async_wait<0>();
    __syncthreads();
  }

  __device__ void multiply_stage(const char* x) {
    const char* weight = x + Stages::kWeightOffset;
    x += static_cast<int>(threadIdx.x / 128) * kGroupRows * kTileRowBytes;
    const uint64_t left = ptx::wgmma_descriptor(x), right = ptx::wgmma_descriptor(weight);
    ptx::wgmma_fence();
#pragma unroll
    for (int step = 0; step < kStepsPerStage; ++step) {
      multiply_async<kTile.columns>(sums_[0], ptx::wgmma_descriptor_at(left, step * kStepBytes),
                                    ptx::wgmma_descriptor_at(right, step * kStepBytes), T{});
    }
    ptx::wgmma_commit();
  }

  const GemmArguments& a_;
  Stages stages_;
  float sums_[1][kTile.columns / 8][4];
};

template <class T, int kTileIndex>
MOE_KERNEL(gemm_wgmma_kernel, (gpu::kWgmmaTiles[kTileIndex].threads(), gpu::kWgmmaTiles[kTileIndex].blocks),
           const GemmArguments a) {
  if constexpr (ptx::kHasWgmma) {
    WgmmaTile<T, kTileIndex> tile(a);
    for_each_tile(a, [&](const RowTile& rows, int column_tile) { tile.compute(rows, column_tile); });
  } else {
    ptx::wgmma_fence();
  }
}

template <class T>
Status launch_wgmma(const GemmArguments& arguments, const gpu::GemmPlan& plan, Stream stream) {
  return gpu::dispatch_index<std::size(gpu::kWgmmaTiles)>(plan.tile_index, [&](auto index) {
    return launch_gemm(gemm_wgmma_kernel<T, decltype(index)::value>, arguments, plan, stream);
  });
}

}  // namespace

const GemmFunctions kWgmmaBF16{.launch = launch_wgmma<bf16>, .pack = pack_plain};
const GemmFunctions kWgmmaF16{.launch = launch_wgmma<f16>, .pack = pack_plain};

}  // namespace moe::MOE_GPU_NAMESPACE
