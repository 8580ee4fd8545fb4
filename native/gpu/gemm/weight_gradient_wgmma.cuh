// The gradient of weights by wgmma, which reads both operands transposed from shared memory, in the background.
#pragma once

#include <ptx/wgmma.cuh>

#include "gpu/gemm/weight_gradient_tile.cuh"
#include "gpu/gemm/wgmma_products.cuh"

namespace moe::MOE_GPU_NAMESPACE {

template <class T, int kTileIndex>
class WeightGradientWgmmaTile : public WeightGradientTile<T, gpu::kWeightGradientWgmmaTiles[kTileIndex]> {
  using Tile = WeightGradientTile<T, gpu::kWeightGradientWgmmaTiles[kTileIndex]>;

 public:
  using Tile::kTile;

  __device__ explicit WeightGradientWgmmaTile(const WeightGradientArguments& a) : Tile(a) {
    ptx::wgmma_check_base(ptx::dynamic_shared<char>());
  }

  __device__ void compute(const WeightGradientRectangle& rectangle) {
    this->start(rectangle);
    multiply_all();
    this->store_sums();
  }

 private:
  using Tile::kDepth, Tile::sums_;
  using typename Tile::Columns, typename Tile::Outputs;
  static constexpr int kGroupOutputs = 64, kMmaDepth = 16;
  static_assert(kTile.warps_columns == 1 && Tile::kMmaRows == 1 && kTile.rows % kGroupOutputs == 0);
  // Stages on their way while one is multiplied and another may still be.
  static constexpr int kAhead = kTile.stages - 2;

  __device__ void multiply_all() {
    const int stages = this->stages();
#pragma unroll
    for (int stage = 0; stage < kAhead; ++stage) {
      if (stage < stages) this->load(stage);
      ptx::cp_async_commit();
    }
    ptx::wgmma_keep(sums_[0]);
#pragma unroll 1
    for (int stage = 0; stage < stages; ++stage) {
      ptx::cp_async_wait<kAhead - 1>();
      ptx::fence_proxy_async();
      // This stage has arrived for all threads, and all have waited for the products of the one two before it, which
      // the next copies overwrite.
      __syncthreads();
      multiply_stage(this->at(stage));
      ptx::wgmma_wait<1>();
      if (stage + kAhead < stages) this->load(stage + kAhead);
      ptx::cp_async_commit();
    }
    ptx::wgmma_wait<0>();
    ptx::wgmma_keep(sums_[0]);
    ptx::cp_async_wait<0>();
    __syncthreads();
  }

  __device__ void multiply_stage(const char* outputs) {
    const char* columns = outputs + Outputs::kBytes;
    outputs += static_cast<int>(threadIdx.x / 128) * Outputs::kPanelBytes;
    const uint64_t a = ptx::wgmma_panel_descriptor(outputs, Outputs::kPanelBytes);
    const uint64_t b = ptx::wgmma_panel_descriptor(columns, Columns::kPanelBytes);
    ptx::wgmma_fence();
#pragma unroll
    for (int step = 0; step < kDepth / kMmaDepth; ++step) {
      constexpr int kStepBytes = kMmaDepth * kTileRowBytes;
      multiply_panels_async<kTile.columns>(sums_[0], ptx::wgmma_descriptor_at(a, step * kStepBytes),
                                           ptx::wgmma_descriptor_at(b, step * kStepBytes), T{});
    }
    ptx::wgmma_commit();
  }
};

}  // namespace moe::MOE_GPU_NAMESPACE
