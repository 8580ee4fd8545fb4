// The descriptor by which wgmma finds a matrix in shared memory. PTX ISA, "Asynchronous warpgroup level matrix
// instructions: Matrix descriptor".
#pragma once

#include <cstdint>

#include "core/dtype.h"

namespace moe::gpu {

// Of rows along K of 128 or 64 bytes as swizzle.cuh lays them out, at an address in shared memory.
template <int kRowBytes>
MOE_HOST_DEVICE constexpr uint64_t matrix_descriptor(uint32_t address) {
  static_assert(kRowBytes == 128 || kRowBytes == 64);
  constexpr uint64_t kEightRows = 8 * kRowBytes, kSwizzle = 128 / kRowBytes;
  // The leading dimension's stride, bits 16 to 29, has no meaning for these swizzles and is 1.
  return (address & 0x3ffffu) >> 4 | uint64_t{1} << 16 | kEightRows >> 4 << 32 | kSwizzle << 62;
}
// Of columns along K, 64 in a panel of rows of 128 bytes, one for each k, as swizzle.cuh lays them out; panels are
// `panel_bytes` apart.
MOE_HOST_DEVICE constexpr uint64_t panel_descriptor(uint32_t address, int panel_bytes) {
  constexpr uint64_t kEightRows = 8 * 128, kSwizzle = 1;
  return (address & 0x3ffffu) >> 4 | static_cast<uint64_t>(panel_bytes) >> 4 << 16 | kEightRows >> 4 << 32 |
         kSwizzle << 62;
}
static_assert(matrix_descriptor<128>(0x8020) == 0x4000004000010802u);
static_assert(matrix_descriptor<64>(0x8020) == 0x8000002000010802u);
static_assert(panel_descriptor(0x8000, 0x1000) == 0x4000004001000800u);

}  // namespace moe::gpu
