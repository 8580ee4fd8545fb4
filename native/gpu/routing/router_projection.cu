#include "gpu/routing/router_projection.cuh"

#include <ptx/launch.cuh>

#include "gpu/operators.h"
#include "gpu/plan/plan.h"
#include "gpu/tile/dispatch.h"
#include "gpu/tile/element.cuh"
#include "gpu/tile/reduce.cuh"

namespace moe::MOE_GPU_NAMESPACE {
namespace {

using gpu::RouterTile;

// Elements that a lane loads at once.
constexpr int kRun = 8;

struct Arguments {
  const void* x;
  const void* weight;
  const void* bias;
  DType bias_dtype;
  float* logits;
  int64_t tokens, experts, hidden;
  bool aligned_x, aligned_weight;
};

// Each warp computes a tile of tokens by experts. The hidden size is split over the lanes in runs of eight and summed
// by a butterfly, whatever the tile, so the order of a sum depends on the hidden size alone.
template <class X, class W, int kTileIndex>
MOE_KERNEL(router_projection_kernel, (RouterTile::kThreads), const Arguments a) {
  constexpr RouterTile kTile = gpu::kRouterTiles[kTileIndex];
  const int lane = static_cast<int>(threadIdx.x % 32);
  const int warp = static_cast<int>(threadIdx.x / 32);
  const int64_t expert_blocks = (a.experts + kTile.block_experts() - 1) / kTile.block_experts();
  const int64_t token_blocks = (a.tokens + kTile.block_tokens() - 1) / kTile.block_tokens();
  for (int64_t block = blockIdx.x; block < expert_blocks * token_blocks; block += gridDim.x) {
    const int64_t first_token =
        block / expert_blocks * kTile.block_tokens() + warp / kTile.warps_experts * kTile.tokens;
    const int64_t first_expert =
        block % expert_blocks * kTile.block_experts() + warp % kTile.warps_experts * kTile.experts;
    float sums[kTile.tokens][kTile.experts] = {};
    for (int64_t k = lane * kRun; k < a.hidden; k += 32 * kRun) {
      float x[kTile.tokens][kRun];
#pragma unroll
      for (int i = 0; i < kTile.tokens; ++i) {
        const int64_t token = first_token + i;
        const int64_t count = token < a.tokens ? a.hidden - k : 0;
        load_up_to(static_cast<const X*>(a.x) + token * a.hidden + k, count, a.aligned_x, x[i]);
      }
#pragma unroll
      for (int j = 0; j < kTile.experts; ++j) {
        const int64_t expert = first_expert + j;
        const int64_t count = expert < a.experts ? a.hidden - k : 0;
        float weight[kRun];
        load_up_to(static_cast<const W*>(a.weight) + expert * a.hidden + k, count, a.aligned_weight, weight);
#pragma unroll
        for (int i = 0; i < kTile.tokens; ++i) {
#pragma unroll
          for (int r = 0; r < kRun; ++r) sums[i][j] = fmaf(x[i][r], weight[r], sums[i][j]);
        }
      }
    }
#pragma unroll
    for (int i = 0; i < kTile.tokens; ++i) {
#pragma unroll
      for (int j = 0; j < kTile.experts; ++j) {
        const float sum = warp_sum(sums[i][j]);
        const int64_t token = first_token + i;
        const int64_t expert = first_expert + j;
        if (lane != (i * kTile.experts + j) % 32 || token >= a.tokens || expert >= a.experts) continue;
        const float bias = a.bias == nullptr ? 0.0f : load_as_float(a.bias, a.bias_dtype, expert);
        a.logits[token * a.experts + expert] = sum + bias;
      }
    }
  }
}

template <class X, class W, int kTileIndex>
Status launch_tile(const Arguments& arguments, unsigned grid, Stream stream) {
  return launch("router_projection", router_projection_kernel<X, W, kTileIndex>, dim3(grid), dim3(RouterTile::kThreads),
                0, stream, arguments);
}

}  // namespace

Status launch_router_projection(const RouterProjection& p, const gpu::DeviceTraits& traits, Stream stream) {
  Arguments arguments{
      .x = p.x.data,
      .weight = p.weight.data,
      .bias = p.bias.data,
      .bias_dtype = p.bias.dtype,
      .logits = p.logits.as<float>(),
      .tokens = p.x.shape[0],
      .experts = p.weight.shape[0],
      .hidden = p.x.shape[1],
      .aligned_x = false,
      .aligned_weight = false,
  };
  const gpu::RouterPlan plan = gpu::plan_router(arguments.tokens, arguments.experts, traits);
  return gpu::dispatch_float(p.x.dtype, [&](auto x_type) {
    using X = typename decltype(x_type)::type;
    arguments.aligned_x = vectors_aligned<X, kRun>(p.x.data, arguments.hidden);
    return gpu::dispatch_float(p.weight.dtype, [&](auto weight_type) {
      using W = typename decltype(weight_type)::type;
      arguments.aligned_weight = vectors_aligned<W, kRun>(p.weight.data, arguments.hidden);
      return plan.tile == 0 ? launch_tile<X, W, 0>(arguments, plan.grid, stream)
                            : launch_tile<X, W, 1>(arguments, plan.grid, stream);
    });
  });
}

Status run(Context& context, const RouterProjection& p) {
  return launch_router_projection(p, context.traits(), context.stream());
}

}  // namespace moe::MOE_GPU_NAMESPACE
