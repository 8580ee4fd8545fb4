// The 16-bit floats of PTX, and flushing of subnormal numbers.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>

#include "core/dtype.h"

namespace ptx_machine {

inline float from_f16(uint16_t bits) { return static_cast<float>(std::bit_cast<moe::f16>(bits)); }
inline float from_bf16(uint16_t bits) { return static_cast<float>(std::bit_cast<moe::bf16>(bits)); }

// To the nearest, ties to even. PTX has a single NaN.
constexpr uint16_t kNan16 = 0x7fff;
inline uint16_t to_f16(float value) { return std::isnan(value) ? kNan16 : moe::f16(value).bits; }
inline uint16_t to_bf16(float value) { return std::isnan(value) ? kNan16 : moe::bf16(value).bits; }

inline float flush(float value) { return std::fpclassify(value) == FP_SUBNORMAL ? std::copysign(0.0f, value) : value; }

}  // namespace ptx_machine
