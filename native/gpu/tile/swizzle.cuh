// The layout of a shared-memory tile with rows of 128 bytes: chunk c of 16 bytes of row r lies at chunk c ^ (r % 8), so
// that the eight rows of an 8x8 matrix, read by ldmatrix at one c, lie in different banks.
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
