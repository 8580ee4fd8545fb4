// The descriptor by which wgmma finds a matrix in shared memory. PTX ISA, "Asynchronous warpgroup level matrix
// instructions: Matrix descriptor".
#pragma once

#include <cstdint>

#include "core/dtype.h"

namespace moe::gpu {

// Of rows along K of 128 bytes as swizzle.cuh lays them out, at an address in shared memory.
MOE_HOST_DEVICE constexpr uint64_t matrix_descriptor(uint32_t address) {
  constexpr uint64_t kEightRows = 8 * 128, kSwizzle128 = 1;
  // The leading dimension's stride, bits 16 to 29, has no meaning for this swizzle and is 1.
  return (address & 0x3ffffu) >> 4 | uint64_t{1} << 16 | kEightRows >> 4 << 32 | kSwizzle128 << 62;
}
static_assert(matrix_descriptor(0x8020) == 0x4000004000010802u);

}  // namespace moe::gpu
