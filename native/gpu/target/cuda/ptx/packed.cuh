// Instructions on registers that hold four bytes or two 16-bit numbers. PTX ISA, "prmt", "lop3" and "Half Precision
// Floating Point Instructions: fma"; sm_80.
#pragma once

#include <cstdint>

#include <ptx/device.cuh>

namespace moe::MOE_GPU_NAMESPACE::ptx {

// Four of the eight bytes of `low` and, behind them, `high`: nibble i of the selector's lower half names byte i. The
// nibbles must be less than 8.
__device__ __forceinline__ uint32_t prmt(uint32_t low, uint32_t high, uint32_t selector) {
  uint32_t result;
  asm("prmt.b32 %0, %1, %2, %3;" : "=r"(result) : "r"(low), "r"(high), "r"(selector));
  return result;
}

// Any function of three bits: the bit of the table that they name, the first of them the highest. Left to itself, the
// compiler takes two instructions where two operands are constants.
template <int kTable>
__device__ __forceinline__ uint32_t lop3(uint32_t a, uint32_t b, uint32_t c) {
  uint32_t result;
  asm("lop3.b32 %0, %1, %2, %3, %4;" : "=r"(result) : "r"(a), "r"(b), "r"(c), "n"(kTable));
  return result;
}

// a * b + c in both halves, rounded once to nearest even. Subnormal numbers are kept.
__device__ __forceinline__ uint32_t fma_rn_bf16x2(uint32_t a, uint32_t b, uint32_t c) {
  uint32_t result;
  asm("fma.rn.bf16x2 %0, %1, %2, %3;" : "=r"(result) : "r"(a), "r"(b), "r"(c));
  return result;
}
__device__ __forceinline__ uint32_t fma_rn_f16x2(uint32_t a, uint32_t b, uint32_t c) {
  uint32_t result;
  asm("fma.rn.f16x2 %0, %1, %2, %3;" : "=r"(result) : "r"(a), "r"(b), "r"(c));
  return result;
}

}  // namespace moe::MOE_GPU_NAMESPACE::ptx
