// Named barriers, for parts of a block. Barrier 0 belongs to __syncthreads. PTX ISA, "bar.sync, bar.arrive".
#pragma once

#include <ptx/device.cuh>

namespace moe::MOE_GPU_NAMESPACE::ptx {

// Waits until `threads` threads (a multiple of 32) have reached barrier `id`, including those that only arrive.
__device__ __forceinline__ void named_barrier_sync(int id, int threads) {
  asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(threads) : "memory");
}

// Arrives without waiting.
__device__ __forceinline__ void named_barrier_arrive(int id, int threads) {
  asm volatile("bar.arrive %0, %1;" ::"r"(id), "r"(threads) : "memory");
}

}  // namespace moe::MOE_GPU_NAMESPACE::ptx
