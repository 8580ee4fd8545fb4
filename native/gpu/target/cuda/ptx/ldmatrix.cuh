// ldmatrix and stmatrix: 8x8 matrices of 16-bit elements between shared memory and the fragments of a warp. PTX ISA,
// "Warp-level matrix load instruction: ldmatrix"; sm_80, stmatrix sm_90.
//
// Lane i gives the address of row i % 8 of matrix i / 8: 16 bytes, aligned to 16. With g = lane / 4 and t = lane % 4,
// register j of a lane receives elements (g, 2t) and (g, 2t + 1) of matrix j, the lower index in the lower half; with
// .trans, (2t, g) and (2t + 1, g). All 32 lanes take part; x2 reads the addresses of lanes 0 .. 15.
#pragma once

#include <cstdint>

#include <ptx/device.cuh>

namespace moe::MOE_GPU_NAMESPACE::ptx {

__device__ __forceinline__ void ldmatrix_x4(uint32_t (&r)[4], const void* shared_row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(shared_address(shared_row))
               : "memory");
}

__device__ __forceinline__ void ldmatrix_x4_trans(uint32_t (&r)[4], const void* shared_row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(shared_address(shared_row))
               : "memory");
}

__device__ __forceinline__ void ldmatrix_x2(uint32_t (&r)[2], const void* shared_row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0, %1}, [%2];"
               : "=r"(r[0]), "=r"(r[1])
               : "r"(shared_address(shared_row))
               : "memory");
}

__device__ __forceinline__ void ldmatrix_x2_trans(uint32_t (&r)[2], const void* shared_row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0, %1}, [%2];"
               : "=r"(r[0]), "=r"(r[1])
               : "r"(shared_address(shared_row))
               : "memory");
}

// sm_90
__device__ __forceinline__ void stmatrix_x4(void* shared_row, const uint32_t (&r)[4]) {
  asm volatile("stmatrix.sync.aligned.m8n8.x4.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(shared_address(shared_row)),
               "r"(r[0]), "r"(r[1]), "r"(r[2]), "r"(r[3])
               : "memory");
}

__device__ __forceinline__ void stmatrix_x2(void* shared_row, const uint32_t (&r)[2]) {
  asm volatile("stmatrix.sync.aligned.m8n8.x2.shared.b16 [%0], {%1, %2};" ::"r"(shared_address(shared_row)), "r"(r[0]),
               "r"(r[1])
               : "memory");
}

}  // namespace moe::MOE_GPU_NAMESPACE::ptx
