// The products of wgmma by the type of what they multiply.
#pragma once

#include <ptx/wgmma.cuh>

#include "gpu/gemm/gemm_arguments.cuh"

namespace moe::MOE_GPU_NAMESPACE {

// Of rows in shared memory.
template <int kColumns>
__device__ __forceinline__ void multiply_async(float (&d)[kColumns / 8][4], uint64_t a, uint64_t b, bf16) {
  ptx::wgmma_k16_bf16<kColumns>(d, a, b);
}
template <int kColumns>
__device__ __forceinline__ void multiply_async(float (&d)[kColumns / 8][4], uint64_t a, uint64_t b, f16) {
  ptx::wgmma_k16_f16<kColumns>(d, a, b);
}

// Of panels of columns there.
template <int kColumns>
__device__ __forceinline__ void multiply_panels_async(float (&d)[kColumns / 8][4], uint64_t a, uint64_t b, bf16) {
  ptx::wgmma_k16_bf16_panels<kColumns>(d, a, b);
}
template <int kColumns>
__device__ __forceinline__ void multiply_panels_async(float (&d)[kColumns / 8][4], uint64_t a, uint64_t b, f16) {
  ptx::wgmma_k16_f16_panels<kColumns>(d, a, b);
}

// Of fragments of A in registers with rows there.
template <int kColumns>
__device__ __forceinline__ void multiply_async(float (&d)[kColumns / 8][4], const uint32_t (&a)[4], uint64_t b,
                                               bool adds, bf16) {
  ptx::wgmma_k16_bf16<kColumns>(d, a, b, adds);
}
template <int kColumns>
__device__ __forceinline__ void multiply_async(float (&d)[kColumns / 8][4], const uint32_t (&a)[4], uint64_t b,
                                               bool adds, f16) {
  ptx::wgmma_k16_f16<kColumns>(d, a, b, adds);
}
template <int kColumns>
__device__ __forceinline__ void multiply_async(float (&d)[kColumns / 8][4], const uint32_t (&a)[4], uint64_t b,
                                               bool adds, fp8) {
  ptx::wgmma_k32_e4m3<kColumns>(d, a, b, adds);
}
template <int kColumns>
__device__ __forceinline__ void multiply_async(int32_t (&d)[kColumns / 8][4], const uint32_t (&a)[4], uint64_t b,
                                               bool adds, int8_t) {
  ptx::wgmma_k32_s8<kColumns>(d, a, b, adds);
}

}  // namespace moe::MOE_GPU_NAMESPACE
