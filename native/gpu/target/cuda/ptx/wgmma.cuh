// wgmma: products of a warpgroup, four consecutive warps, in the background: D[64, columns] += A[64, K] B[columns,
// K]^T, with A and B in shared memory. PTX ISA, "Asynchronous warpgroup level matrix instructions"; sm_90a. With g =
// lane / 4 and t = lane % 4, warp w of the group has in d[n] rows 16 w + g (d[n][0], d[n][1]) and 16 w + g + 8 of the
// columns 8 n + 2 t and 8 n + 2 t + 1. For other GPUs these functions trap: no plan launches a kernel there that has
// them.
#pragma once

#include <cstdint>

#include <ptx/device.cuh>

#include "gpu/tile/matrix_descriptor.h"

namespace moe::MOE_GPU_NAMESPACE {

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
#define MOE_WGMMA(...) asm volatile(__VA_ARGS__)
#else
#define MOE_WGMMA(...) __trap()
#endif
#define MOE_WGMMA_SUM(n) "+f"(d[n][0]), "+f"(d[n][1]), "+f"(d[n][2]), "+f"(d[n][3])
#define MOE_WGMMA_SUMS_OF_4(n) MOE_WGMMA_SUM(n), MOE_WGMMA_SUM((n) + 1), MOE_WGMMA_SUM((n) + 2), MOE_WGMMA_SUM((n) + 3)
#define MOE_WGMMA_SUMS_OF_16(n) \
  MOE_WGMMA_SUMS_OF_4(n), MOE_WGMMA_SUMS_OF_4((n) + 4), MOE_WGMMA_SUMS_OF_4((n) + 8), MOE_WGMMA_SUMS_OF_4((n) + 12)
#define MOE_WGMMA_REGISTERS_OF_16                                                                   \
  "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, %19, %20, " \
  "%21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, %32, %33, %34, %35, %36, %37, %38, %39, " \
  "%40, %41, %42, %43, %44, %45, %46, %47, %48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, " \
  "%59, %60, %61, %62, %63"
#define MOE_WGMMA_REGISTERS_OF_32                                                                   \
  "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, %19, %20, " \
  "%21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, %32, %33, %34, %35, %36, %37, %38, %39, " \
  "%40, %41, %42, %43, %44, %45, %46, %47, %48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, " \
  "%59, %60, %61, %62, %63, %64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, " \
  "%78, %79, %80, %81, %82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95, %96, " \
  "%97, %98, %99, %100, %101, %102, %103, %104, %105, %106, %107, %108, %109, %110, %111, %112, "   \
  "%113, %114, %115, %116, %117, %118, %119, %120, %121, %122, %123, %124, %125, %126, %127"
// wgmma_k16_TYPE<128> and <256>.
#define MOE_WGMMA_K16(TYPE)                                                                                 \
  template <>                                                                                               \
  __device__ __forceinline__ void wgmma_k16_##TYPE<128>(float(&d)[16][4], uint64_t a, uint64_t b) {         \
    MOE_WGMMA("wgmma.mma_async.sync.aligned.m64n128k16.f32." #TYPE "." #TYPE " {" MOE_WGMMA_REGISTERS_OF_16 \
              "}, %64, %65, 1, 1, 1, 0, 0;"                                                                 \
              : MOE_WGMMA_SUMS_OF_16(0)                                                                     \
              : "l"(a), "l"(b));                                                                            \
  }                                                                                                         \
  template <>                                                                                               \
  __device__ __forceinline__ void wgmma_k16_##TYPE<256>(float(&d)[32][4], uint64_t a, uint64_t b) {         \
    MOE_WGMMA("wgmma.mma_async.sync.aligned.m64n256k16.f32." #TYPE "." #TYPE " {" MOE_WGMMA_REGISTERS_OF_32 \
              "}, %128, %129, 1, 1, 1, 0, 0;"                                                               \
              : MOE_WGMMA_SUMS_OF_16(0), MOE_WGMMA_SUMS_OF_16(16)                                           \
              : "l"(a), "l"(b));                                                                            \
  }

namespace ptx {

// Of a matrix whose first row begins at a multiple of 1024 bytes, plus 32 for each product before.
__device__ __forceinline__ uint64_t wgmma_descriptor(const void* shared) {
  return gpu::matrix_descriptor(shared_address(shared));
}

template <int kColumns>
__device__ __forceinline__ void wgmma_k16_bf16(float (&d)[kColumns / 8][4], uint64_t a, uint64_t b);
template <int kColumns>
__device__ __forceinline__ void wgmma_k16_f16(float (&d)[kColumns / 8][4], uint64_t a, uint64_t b);
MOE_WGMMA_K16(bf16)
MOE_WGMMA_K16(f16)

// Orders accesses to the registers of sums before the products that follow.
__device__ __forceinline__ void wgmma_fence() { MOE_WGMMA("wgmma.fence.sync.aligned;" ::: "memory"); }

// Closes the group of the products since the last commit.
__device__ __forceinline__ void wgmma_commit() { MOE_WGMMA("wgmma.commit_group.sync.aligned;" ::: "memory"); }

// Waits until at most kPending of the closed groups are incomplete. Until then, the registers of their sums must not be
// touched.
template <int kPending>
__device__ __forceinline__ void wgmma_wait() {
  MOE_WGMMA("wgmma.wait_group.sync.aligned %0;" ::"n"(kPending) : "memory");
}

// Keeps the compiler from moving accesses to the registers of sums across this place.
template <int kCount>
__device__ __forceinline__ void wgmma_keep(float (&d)[kCount][4]) {
#pragma unroll
  for (int n = 0; n < kCount; ++n) {
#pragma unroll
    for (int i = 0; i < 4; ++i) asm volatile("" : "+f"(d[n][i])::"memory");
  }
}

// Makes this thread's earlier writes to shared memory visible to products. A barrier makes them visible to those of
// other threads.
__device__ __forceinline__ void fence_proxy_async() { MOE_WGMMA("fence.proxy.async.shared::cta;" ::: "memory"); }

}  // namespace ptx

#undef MOE_WGMMA
#undef MOE_WGMMA_SUM
#undef MOE_WGMMA_SUMS_OF_4
#undef MOE_WGMMA_SUMS_OF_16
#undef MOE_WGMMA_REGISTERS_OF_16
#undef MOE_WGMMA_REGISTERS_OF_32
#undef MOE_WGMMA_K16

}  // namespace moe::MOE_GPU_NAMESPACE
