// Named barriers: of a part of a block. Barrier 0 is __syncthreads'. PTX ISA, "bar.sync, bar.arrive".
#pragma once

#include <ptx/device.cuh>

namespace moe::MOE_GPU_NAMESPACE::ptx {

// Waits until `threads` threads (a multiple of 32) have come to barrier `id`, arrivals included.
__device__ __forceinline__ void named_barrier_sync(int id, int threads) {
  asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(threads) : "memory");
}

// Counts as having come, without waiting.
__device__ __forceinline__ void named_barrier_arrive(int id, int threads) {
  asm volatile("bar.arrive %0, %1;" ::"r"(id), "r"(threads) : "memory");
}

}  // namespace moe::MOE_GPU_NAMESPACE::ptx
