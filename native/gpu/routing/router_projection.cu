#include "gpu/routing/router_projection.cuh"

#include <ptx/launch.cuh>

#include <algorithm>
#include <bit>
#include <iterator>

#include "gpu/operators.h"
#include "gpu/routing/router_staged.cuh"
#include "gpu/routing/router_tile.cuh"
#include "gpu/tile/dispatch.h"

namespace moe::MOE_GPU_NAMESPACE {
namespace {

// Rows of a tile. Beyond the matrix's last row, that one is read again: a load that waits for no branch.
template <class T>
class Rows {
 public:
  __device__ __forceinline__ Rows(const void* matrix, int64_t row, int64_t rows, int64_t columns)
      : first_(static_cast<const T*>(matrix) + row * columns),
        last_(static_cast<int>(min(rows - row, int64_t{1} << 30)) - 1),
        pitch_(columns) {}

  __device__ __forceinline__ const T* operator[](int i) const { return first_ + min(i, last_) * pitch_; }

 private:
  const T* first_;
  int last_;
  int64_t pitch_;
};

// Steps of columns that are on their way together: a power of two that a row's steps are likely to be a multiple of,
// and as many as registers hold beside the sums.
template <gpu::RouterTile kTile, class X, class W>
constexpr int kStepsAhead = static_cast<int>(std::clamp(
    std::bit_floor(160 * sizeof(uint32_t) / (kRouterRun * (kTile.tokens * sizeof(X) + kTile.experts * sizeof(W)))),
    size_t{1}, size_t{8}));

// Adds up the products of a lane's columns, from rows that vectors can read.
template <gpu::RouterTile kTile, class X, class W>
__device__ __forceinline__ void add_whole_runs(const Rows<X>& x_rows, const Rows<W>& weight_rows, int64_t hidden,
                                               int64_t lane_column, float (&sums)[kTile.tokens * kTile.experts]) {
  constexpr int kSteps = kStepsAhead<kTile, X, W>;
  for (int64_t first = 0; first < hidden; first += kSteps * gpu::kRouterColumns) {
    Vector<X, kRouterRun> x_vectors[kSteps][kTile.tokens];
    Vector<W, kRouterRun> weight_vectors[kSteps][kTile.experts];
#pragma unroll
    for (int step = 0; step < kSteps; ++step) {
      const int64_t k = first + step * gpu::kRouterColumns + lane_column;
      // Behind the rows' ends, their beginnings are read, and not added.
      const int64_t column = k < hidden ? k : 0;
#pragma unroll
      for (int i = 0; i < kTile.tokens; ++i) load_elements(x_rows[i] + column, x_vectors[step][i]);
#pragma unroll
      for (int j = 0; j < kTile.experts; ++j) load_elements(weight_rows[j] + column, weight_vectors[step][j]);
    }
    // Keeps the compiler from moving loads to where they are used, which it does to save registers.
    __syncwarp();
#pragma unroll
    for (int step = 0; step < kSteps; ++step) {
      if (first + step * gpu::kRouterColumns + lane_column >= hidden) break;
      float x[kTile.tokens][kRouterRun];
#pragma unroll
      for (int i = 0; i < kTile.tokens; ++i) to_floats(x_vectors[step][i], x[i]);
#pragma unroll
      for (int j = 0; j < kTile.experts; ++j) {
        float weight[kRouterRun];
        to_floats(weight_vectors[step][j], weight);
#pragma unroll
        for (int i = 0; i < kTile.tokens; ++i) multiply_add(x[i], weight, sums[i * kTile.experts + j]);
      }
    }
  }
}

// The same from any rows.
template <gpu::RouterTile kTile, class X, class W>
__device__ __forceinline__ void add_any_runs(const Rows<X>& x_rows, const Rows<W>& weight_rows,
                                             const RouterArguments& a, int64_t lane_column,
                                             float (&sums)[kTile.tokens * kTile.experts]) {
  for (int64_t k = lane_column; k < a.hidden; k += gpu::kRouterColumns) {
    float x[kTile.tokens][kRouterRun];
#pragma unroll
    for (int i = 0; i < kTile.tokens; ++i) load_up_to(x_rows[i] + k, a.hidden - k, a.aligned_x, x[i]);
#pragma unroll
    for (int j = 0; j < kTile.experts; ++j) {
      float weight[kRouterRun];
      load_up_to(weight_rows[j] + k, a.hidden - k, a.aligned_weight, weight);
#pragma unroll
      for (int i = 0; i < kTile.tokens; ++i) multiply_add(x[i], weight, sums[i * kTile.experts + j]);
    }
  }
}

template <class X, class W, int kTileIndex, bool kWholeVectors>
MOE_KERNEL(router_projection_kernel, (gpu::kRouterTiles[kTileIndex].threads()), const RouterArguments a) {
  using Blocks = RouterBlocks<kTileIndex>;
  const int64_t lane_column = threadIdx.x % 32 * kRouterRun;
  const Blocks blocks(a);
  for (int64_t block = blockIdx.x; block < blocks.count(); block += gridDim.x) {
    const int64_t token = blocks.token(block) + Blocks::warp_token();
    const int64_t expert = blocks.expert(block) + Blocks::warp_expert();
    if (token >= a.tokens || expert >= a.experts) continue;
    const Rows<X> x_rows(a.x, token, a.tokens, a.hidden);
    const Rows<W> weight_rows(a.weight, expert, a.experts, a.hidden);
    float sums[Blocks::kSums] = {};
    if constexpr (kWholeVectors) {
      add_whole_runs<Blocks::kTile>(x_rows, weight_rows, a.hidden, lane_column, sums);
    } else {
      add_any_runs<Blocks::kTile>(x_rows, weight_rows, a, lane_column, sums);
    }
    blocks.store(token, expert, sums);
  }
}

template <class X, class W, int kTileIndex, bool kWholeVectors = true>
Status launch_tile(const RouterArguments& arguments, const gpu::RouterPlan& plan, Stream stream) {
  constexpr gpu::RouterTile kTile = gpu::kRouterTiles[kTileIndex];
  const auto launch_kernel = [&](auto kernel) {
    return launch("router_projection", kernel, dim3(plan.grid), dim3(kTile.threads()), plan.shared_bytes, stream,
                  arguments);
  };
  if constexpr (kTile.stages > 0) {
    return launch_kernel(router_projection_staged_kernel<X, W, kTileIndex>);
  } else {
    return launch_kernel(router_projection_kernel<X, W, kTileIndex, kWholeVectors>);
  }
}

template <class X, class W>
Status launch_plan(const RouterArguments& arguments, const gpu::DeviceTraits& traits, Stream stream) {
  const gpu::RouterSizes sizes{
      .tokens = arguments.tokens,
      .experts = arguments.experts,
      .x_bytes = sizeof(X),
      .weight_bytes = sizeof(W),
      .whole_vectors = arguments.aligned_x && arguments.aligned_weight && arguments.hidden % kRouterRun == 0,
  };
  const gpu::RouterPlan plan = gpu::plan_router(sizes, traits);
  if (!sizes.whole_vectors) return launch_tile<X, W, gpu::kRouterTileOfAnyRows, false>(arguments, plan, stream);
  return gpu::dispatch_index<std::size(gpu::kRouterTiles)>(
      plan.tile, [&](auto tile) { return launch_tile<X, W, decltype(tile)::value>(arguments, plan, stream); });
}

}  // namespace

Status launch_router_projection(const RouterProjection& p, const gpu::DeviceTraits& traits, Stream stream) {
  RouterArguments arguments{
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
  return gpu::dispatch_float(p.x.dtype, [&](auto x_type) {
    using X = typename decltype(x_type)::type;
    arguments.aligned_x = vectors_aligned<X, kRouterRun>(p.x.data, arguments.hidden);
    return gpu::dispatch_float(p.weight.dtype, [&](auto weight_type) {
      using W = typename decltype(weight_type)::type;
      arguments.aligned_weight = vectors_aligned<W, kRouterRun>(p.weight.data, arguments.hidden);
      return launch_plan<X, W>(arguments, traits, stream);
    });
  });
}

Status run(Context& context, const RouterProjection& p) {
  return launch_router_projection(p, context.traits(), context.stream());
}

}  // namespace moe::MOE_GPU_NAMESPACE
