// Numbers in few bits, to and from float32: integers, and E4M3 and E8M0 of OCP.
#pragma once

#include "core/dtype.h"

namespace moe {

// OCP 8-bit floating point, E4M3 without infinities: 0x7f and 0xff are NaN.
MOE_HOST_DEVICE inline float from_e4m3(uint32_t bits) {
  const uint32_t exponent = (bits >> 3) & 0xfu;
  const uint32_t mantissa = bits & 7u;
  const float magnitude = exponent == 15 && mantissa == 7 ? float_from_bits(0x7fc00000u)
                          : exponent == 0                 ? static_cast<float>(mantissa) * 0x1p-9f
                                          : float_from_bits(((exponent + 120u) << 23) | (mantissa << 20));
  return (bits & 0x80u) != 0 ? -magnitude : magnitude;
}

// A power of two, its exponent biased by 127; 255 is NaN.
MOE_HOST_DEVICE inline float from_e8m0(uint32_t bits) {
  return float_from_bits(bits == 255 ? 0x7fc00000u : bits == 0 ? 0x00400000u : bits << 23);
}

MOE_HOST_DEVICE inline float clamped(float value, float lowest, float highest) {
  return value < lowest ? lowest : value > highest ? highest : value;
}

// To the nearest integer, ties to even, for magnitudes below 2^22: there the sum has no bits below 1.
MOE_HOST_DEVICE inline float to_integer(float value) { return (value + 0x1.8p23f) - 0x1.8p23f; }

// The nearest e4m3, ties to even; magnitudes above 448 become 448.
MOE_HOST_DEVICE inline uint32_t to_e4m3(float value) {
  const uint32_t bits = float_bits(value), sign = (bits >> 24) & 0x80u;
  const float magnitude = float_from_bits(bits & 0x7fffffffu);
  if (magnitude >= 448.0f) return sign | 0x7eu;
  if (magnitude < 0x1p-6f) return sign | static_cast<uint32_t>(to_integer(magnitude * 0x1p9f));
  const uint32_t rounded = (bits & 0x7fffffffu) + 0x7ffffu + ((bits >> 20) & 1u);
  return sign | ((rounded >> 20) - (120u << 3));
}

// The least power of two that is no less than a value >= 0, from 2^-127 to 2^127.
MOE_HOST_DEVICE inline uint32_t to_e8m0(float value) {
  const uint32_t bits = float_bits(value);
  if (bits <= 0x00400000u) return 0;
  const uint32_t exponent = (bits >> 23) + ((bits & 0x7fffffu) != 0 ? 1u : 0u);
  return exponent < 254u ? exponent : 254u;
}

}  // namespace moe
