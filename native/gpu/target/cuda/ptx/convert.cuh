// Conversions between float32 and the 16-bit formats, each a single instruction. PTX ISA, "cvt".
#pragma once

#include <cstdint>

#include <ptx/device.cuh>

namespace moe::MOE_GPU_NAMESPACE::ptx {

__device__ __forceinline__ float cvt_f32_f16(uint16_t bits) {
  float value;
  asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(bits));
  return value;
}

__device__ __forceinline__ uint16_t cvt_rn_f16_f32(float value) {
  uint16_t bits;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(value));
  return bits;
}

__device__ __forceinline__ uint16_t cvt_rn_bf16_f32(float value) {
  uint16_t bits;
  asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(bits) : "f"(value));
  return bits;
}

}  // namespace moe::MOE_GPU_NAMESPACE::ptx
