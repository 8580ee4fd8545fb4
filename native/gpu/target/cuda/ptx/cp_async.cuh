// cp.async: copies from global to shared memory that complete in the background. PTX ISA, "Data Movement and Conversion
// Instructions: Asynchronous copy"; sm_80. A thread sees its own copies after cp_async_wait, and others' after a
// barrier that follows it.
#pragma once

#include <ptx/device.cuh>

namespace moe::MOE_GPU_NAMESPACE::ptx {

// Both addresses are aligned to 16 bytes. Bypasses L1.
__device__ __forceinline__ void cp_async_16(void* shared, const void* global) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(shared_address(shared)), "l"(global) : "memory");
}

// Zeros, and nothing is read, unless the source `exists`: in fewer instructions than with a number of bytes.
__device__ __forceinline__ void cp_async_16_or_zeros(void* shared, const void* global, bool exists) {
  asm volatile(
      "{\n.reg .pred ignore;\nsetp.eq.b32 ignore, %2, 0;\ncp.async.cg.shared.global [%0], [%1], 16, ignore;\n}" ::"r"(
          shared_address(shared)),
      "l"(global), "r"(static_cast<int>(exists))
      : "memory");
}

// The first `source_bytes` (0 .. 16) are copied, the rest is set to zero; with 0, `global` is not read.
__device__ __forceinline__ void cp_async_16_zfill(void* shared, const void* global, int source_bytes) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(shared)), "l"(global),
               "r"(source_bytes)
               : "memory");
}

// The same for 8 bytes, aligned to 8.
__device__ __forceinline__ void cp_async_8_zfill(void* shared, const void* global, int source_bytes) {
  asm volatile("cp.async.ca.shared.global [%0], [%1], 8, %2;" ::"r"(shared_address(shared)), "l"(global),
               "r"(source_bytes)
               : "memory");
}

// The same for 4 bytes, aligned to 4.
__device__ __forceinline__ void cp_async_4_zfill(void* shared, const void* global, int source_bytes) {
  asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(shared_address(shared)), "l"(global),
               "r"(source_bytes)
               : "memory");
}

// Closes the group of this thread's copies since the last commit.
__device__ __forceinline__ void cp_async_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }

// Waits until at most the `kGroups` newest groups of this thread are unfinished.
template <int kGroups>
__device__ __forceinline__ void cp_async_wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kGroups) : "memory");
}

}  // namespace moe::MOE_GPU_NAMESPACE::ptx
