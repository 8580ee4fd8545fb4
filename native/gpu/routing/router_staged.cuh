// Router projection of many tokens: rows wait in shared memory, each read from global memory once for a block.
#pragma once

#include "gpu/routing/router_tile.cuh"
#include "gpu/tile/swizzle.cuh"

#include <ptx/cp_async.cuh>
#include <ptx/ld_st.cuh>

namespace moe::MOE_GPU_NAMESPACE {

// kRouterColumns columns of kRows rows of T in shared memory. A lane's run is kParts chunks of 16 bytes. So that eight
// lanes' chunks are in different banks, the first chunks of all lanes stand before the second ones, and these are
// swapped by fours.
template <class T, int kRows, int kThreads>
struct RouterStage {
  static constexpr int kRowBytes = gpu::kRouterColumns * static_cast<int>(sizeof(T));
  static constexpr int kBytes = kRows * kRowBytes;
  static constexpr int kParts = kRouterRun * static_cast<int>(sizeof(T)) / kChunkBytes;
  static constexpr int kChunks = kRowBytes / kChunkBytes;
  // Each thread copies one chunk of every kRowStep-th row.
  static constexpr int kRowStep = kThreads / kChunks;
  static_assert(kThreads % kChunks == 0 && kRows % kRowStep == 0);

  __device__ __forceinline__ static int offset(int lane, int part) {
    return (part * 32 + (lane ^ part * 4)) * kChunkBytes;
  }

  // Enqueues the copies of `columns` columns, from `source` on, of `rows` rows; the rest becomes zeros.
  __device__ __forceinline__ static void load(const T* source, int64_t pitch, int rows, int columns, char* stage) {
    const int chunk = static_cast<int>(threadIdx.x) % kChunks, first = static_cast<int>(threadIdx.x) / kChunks;
    constexpr int kElements = kChunkBytes / static_cast<int>(sizeof(T));
    const int rows_left = chunk * kElements < columns ? rows - first : 0;
    const char* const begin = reinterpret_cast<const char*>(source);
    const char* from = begin + first * pitch * static_cast<int64_t>(sizeof(T)) + chunk * kChunkBytes;
    char* to = stage + first * kRowBytes + offset(chunk / kParts, chunk % kParts);
#pragma unroll
    for (int row = 0; row < kRows; row += kRowStep) {
      const bool exists = row < rows_left;
      ptx::cp_async_16_or_zeros(to + row * kRowBytes, exists ? from : begin, exists);
      // kRowStep rows, a number of bytes that is the same for every T.
      from += pitch * (kThreads * kChunkBytes / gpu::kRouterColumns);
    }
  }

  // The lane's run of a row.
  __device__ __forceinline__ static void read(const char* stage, int row, int lane, float (&values)[kRouterRun]) {
    Vector<T, kRouterRun> vector;
#pragma unroll
    for (int part = 0; part < kParts; ++part) {
      vector.quads[part] = ptx::ld_shared_128(stage + row * kRowBytes + offset(lane, part));
    }
    to_floats(vector, values);
  }
};

template <class X, class W, int kTileIndex>
MOE_KERNEL(router_projection_staged_kernel, (gpu::kRouterTiles[kTileIndex].threads()), const RouterArguments a) {
  using Blocks = RouterBlocks<kTileIndex>;
  constexpr gpu::RouterTile kTile = Blocks::kTile;
  using StageX = RouterStage<X, kTile.block_tokens(), kTile.threads()>;
  using StageWeight = RouterStage<W, kTile.block_experts(), kTile.threads()>;
  constexpr int kStageBytes = StageX::kBytes + StageWeight::kBytes;
  static_assert(kTile.stages == 2, "while one stage is multiplied, the next is copied");
  char* stages = ptx::dynamic_shared<char>();
  const int lane = static_cast<int>(threadIdx.x % 32);
  const Blocks blocks(a);
  const auto steps = static_cast<int>((a.hidden + gpu::kRouterColumns - 1) / gpu::kRouterColumns);
  for (int64_t block = blockIdx.x; block < blocks.count(); block += gridDim.x) {
    const auto tokens = static_cast<int>(min(a.tokens - blocks.token(block), int64_t{kTile.block_tokens()}));
    const auto experts = static_cast<int>(min(a.experts - blocks.expert(block), int64_t{kTile.block_experts()}));
    const X* x_source = static_cast<const X*>(a.x) + blocks.token(block) * a.hidden;
    const W* weight_source = static_cast<const W*>(a.weight) + blocks.expert(block) * a.hidden;
    const auto columns_of = [&](int step) {
      return step + 1 < steps ? gpu::kRouterColumns
                              : static_cast<int>(a.hidden - int64_t{steps - 1} * gpu::kRouterColumns);
    };
    // Enqueues the copies of the next step's columns.
    const auto copy = [&](int step, char* stage) {
      StageX::load(x_source, a.hidden, tokens, columns_of(step), stage);
      StageWeight::load(weight_source, a.hidden, experts, columns_of(step), stage + StageX::kBytes);
      ptx::cp_async_commit();
      x_source += gpu::kRouterColumns;
      weight_source += gpu::kRouterColumns;
    };
    const bool multiplies = Blocks::warp_token() < tokens && Blocks::warp_expert() < experts;
    float sums[Blocks::kSums] = {};
    // The tile before this one has been multiplied.
    __syncthreads();
    if (steps > 0) copy(0, stages);
    for (int step = 0; step < steps; ++step) {
      ptx::cp_async_wait<0>();
      // Everyone's copies are there, and the other stage has been multiplied.
      __syncthreads();
      const char* stage = stages + step % 2 * kStageBytes;
      if (step + 1 < steps) copy(step + 1, stages + (step + 1) % 2 * kStageBytes);
      const int lanes_with_columns = columns_of(step) / kRouterRun;
      if (!multiplies || lane >= lanes_with_columns) continue;
      const unsigned lanes = kAllLanes >> (32 - lanes_with_columns);
      float x[kTile.tokens][kRouterRun];
#pragma unroll
      for (int i = 0; i < kTile.tokens; ++i) StageX::read(stage, Blocks::warp_token() + i, lane, x[i]);
#pragma unroll
      for (int j = 0; j < kTile.experts; ++j) {
        // Keeps the compiler from reading more rows ahead than fit in registers.
        if (j % 4 == 0) __syncwarp(lanes);
        float weight[kRouterRun];
        StageWeight::read(stage + StageX::kBytes, Blocks::warp_expert() + j, lane, weight);
#pragma unroll
        for (int i = 0; i < kTile.tokens; ++i) multiply_add(x[i], weight, sums[i * kTile.experts + j]);
      }
    }
    if (multiplies) {
      blocks.store(blocks.token(block) + Blocks::warp_token(), blocks.expert(block) + Blocks::warp_expert(), sums);
    }
  }
}

}  // namespace moe::MOE_GPU_NAMESPACE
