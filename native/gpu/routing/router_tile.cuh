// What the kernels of the router projection have in common.
#pragma once

#include <cstdint>

#include "core/dtype.h"
#include "gpu/plan/plan.h"
#include "gpu/tile/element.cuh"
#include "gpu/tile/reduce.cuh"

#include <ptx/device.cuh>

namespace moe::MOE_GPU_NAMESPACE {

struct RouterArguments {
  const void* x;
  const void* weight;
  const void* bias;
  DType bias_dtype;
  float* logits;
  int64_t tokens, experts, hidden;
  bool aligned_x, aligned_weight;
};

// Elements of a row that a lane adds up in turn.
constexpr int kRouterRun = gpu::kRouterColumns / 32;

// The tiles of the grid's blocks, and this warp's part of one. The hidden size is split over the lanes in runs of eight
// and summed by a butterfly, whatever the tile, so the order of a sum depends on the hidden size alone.
template <int kTileIndex>
class RouterBlocks {
 public:
  static constexpr gpu::RouterTile kTile = gpu::kRouterTiles[kTileIndex];
  static constexpr int kSums = kTile.tokens * kTile.experts;

  __device__ __forceinline__ explicit RouterBlocks(const RouterArguments& a)
      : a_(a), across_((a.experts + kTile.block_experts() - 1) / kTile.block_experts()) {}

  __device__ __forceinline__ int64_t count() const {
    return across_ * ((a_.tokens + kTile.block_tokens() - 1) / kTile.block_tokens());
  }
  __device__ __forceinline__ int64_t token(int64_t block) const { return block / across_ * kTile.block_tokens(); }
  __device__ __forceinline__ int64_t expert(int64_t block) const { return block % across_ * kTile.block_experts(); }

  // This warp's first row of the block's.
  __device__ __forceinline__ static int warp_token() { return warp() / kTile.warps_experts * kTile.tokens; }
  __device__ __forceinline__ static int warp_expert() { return warp() % kTile.warps_experts * kTile.experts; }

  // Stores the logits of a warp whose tile begins at these rows, from its lanes' sums.
  __device__ __forceinline__ void store(int64_t first_token, int64_t first_expert, float (&sums)[kSums]) const {
    constexpr int kStored = kSums < 32 ? 1 : kSums / 32;
    const int lane = static_cast<int>(threadIdx.x % 32);
    warp_sums<kSums>(sums);
    if (kSums < 32 && lane * kSums % 32 != 0) return;
#pragma unroll
    for (int s = 0; s < kStored; ++s) {
      const int index = lane * kSums / 32 + s;
      const int64_t token = first_token + index / kTile.experts;
      const int64_t expert = first_expert + index % kTile.experts;
      if (token >= a_.tokens || expert >= a_.experts) continue;
      const float bias = a_.bias == nullptr ? 0.0f : load_as_float(a_.bias, a_.bias_dtype, expert);
      a_.logits[token * a_.experts + expert] = sums[s] + bias;
    }
  }

 private:
  __device__ __forceinline__ static int warp() { return static_cast<int>(threadIdx.x / 32); }

  const RouterArguments& a_;
  int64_t across_;
};

template <int N>
__device__ __forceinline__ void multiply_add(const float (&x)[N], const float (&weight)[N], float& sum) {
#pragma unroll
  for (int r = 0; r < N; ++r) sum = fmaf(x[r], weight[r], sum);
}

}  // namespace moe::MOE_GPU_NAMESPACE
