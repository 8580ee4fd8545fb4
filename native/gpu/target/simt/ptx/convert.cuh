// Conversions between float32 and the 16-bit formats.
#pragma once

#include <cstdint>

#include "core/dtype.h"
#include "ptx/device.cuh"

namespace moe::simt::ptx {

inline float cvt_f32_f16(uint16_t bits) {
  f16 value;
  value.bits = bits;
  return static_cast<float>(value);
}

inline uint16_t cvt_rn_f16_f32(float value) { return f16(value).bits; }

inline uint16_t cvt_rn_bf16_f32(float value) { return bf16(value).bits; }

}  // namespace moe::simt::ptx
