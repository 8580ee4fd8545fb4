// The layout of a shared-memory tile with rows of 128 bytes, or of 64, two in a line of 128. Chunk c (16 bytes) of a
// row in line l is stored at chunk c ^ (l % 8), or c ^ (l % 4), so that the eight rows of an 8x8 matrix, which ldmatrix
// reads at one chunk of each, are in different banks. wgmma reads both layouts.
#pragma once

#include <ptx/device.cuh>

namespace moe::MOE_GPU_NAMESPACE {

constexpr int kTileRowBytes = 128;
constexpr int kChunkBytes = 16;
constexpr int kChunksPerRow = kTileRowBytes / kChunkBytes;

template <int kRowBytes = kTileRowBytes>
__device__ __forceinline__ int swizzled_offset(int row, int chunk) {
  constexpr int kRows = kTileRowBytes / kRowBytes, kChunks = kRowBytes / kChunkBytes;
  return row * kRowBytes + (chunk ^ (row / kRows % kChunks)) * kChunkBytes;
}

}  // namespace moe::MOE_GPU_NAMESPACE
