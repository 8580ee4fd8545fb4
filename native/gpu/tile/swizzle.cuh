// The layout of a shared-memory tile with rows of 128 bytes. Chunk c (16 bytes) of row r is stored at chunk c ^ (r %
// 8), so that the eight rows of an 8x8 matrix, which ldmatrix reads at one c, are in different banks.
#pragma once

#include <ptx/device.cuh>

namespace moe::MOE_GPU_NAMESPACE {

constexpr int kTileRowBytes = 128;
constexpr int kChunkBytes = 16;
constexpr int kChunksPerRow = kTileRowBytes / kChunkBytes;

__device__ __forceinline__ int swizzled_offset(int row, int chunk) {
  return row * kTileRowBytes + (chunk ^ (row % kChunksPerRow)) * kChunkBytes;
}

}  // namespace moe::MOE_GPU_NAMESPACE
