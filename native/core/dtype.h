// Element types and the 16-bit float formats, shared by every device.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#if defined(__CUDACC__)
#define MOE_HOST_DEVICE __host__ __device__
#else
#define MOE_HOST_DEVICE
#endif

namespace moe {

enum class DType : uint8_t { f32, f16, bf16, i32, u8 };

constexpr int kDTypeCount = 5;

struct DTypeInfo {
  const char* name;
  size_t bytes;
};

// In the order of DType.
inline constexpr DTypeInfo kDTypes[kDTypeCount] = {
    {"f32", 4}, {"f16", 2}, {"bf16", 2}, {"i32", 4}, {"u8", 1},
};

constexpr const DTypeInfo& info(DType dtype) { return kDTypes[static_cast<int>(dtype)]; }
constexpr bool is_float(DType dtype) { return dtype <= DType::bf16; }

MOE_HOST_DEVICE inline uint32_t float_bits(float value) {
  uint32_t bits;
  memcpy(&bits, &value, sizeof bits);
  return bits;
}

MOE_HOST_DEVICE inline float float_from_bits(uint32_t bits) {
  float value;
  memcpy(&value, &bits, sizeof value);
  return value;
}

// bfloat16: the upper half of a float32, rounded to nearest even. NaN stays NaN.
struct bf16 {
  uint16_t bits;

  bf16() = default;
  MOE_HOST_DEVICE explicit bf16(float value) {
    const uint32_t u = float_bits(value);
    const bool is_nan = (u & 0x7fffffffu) > 0x7f800000u;
    bits = static_cast<uint16_t>(is_nan ? (u >> 16) | 0x40u : (u + 0x7fffu + ((u >> 16) & 1u)) >> 16);
  }
  MOE_HOST_DEVICE explicit operator float() const { return float_from_bits(static_cast<uint32_t>(bits) << 16); }
};

// IEEE binary16, rounded to nearest even; overflow becomes infinity.
struct f16 {
  uint16_t bits;

  f16() = default;
  MOE_HOST_DEVICE explicit f16(float value) {
    const uint32_t u = float_bits(value);
    const uint32_t sign = (u >> 16) & 0x8000u;
    const uint32_t magnitude = u & 0x7fffffffu;
    uint32_t result;
    if (magnitude > 0x7f800000u) {
      result = 0x7e00u;
    } else if (magnitude >= 0x477ff000u) {
      result = 0x7c00u;
    } else if (magnitude < 0x38800000u) {
      // Subnormal: adding 0.5 rounds the value to units of 2^-24 and leaves it in the low mantissa bits.
      result = float_bits(float_from_bits(magnitude) + 0.5f) - 0x3f000000u;
    } else {
      result = (magnitude + 0xfffu + ((magnitude >> 13) & 1u) - 0x38000000u) >> 13;
    }
    bits = static_cast<uint16_t>(sign | result);
  }
  MOE_HOST_DEVICE explicit operator float() const {
    const uint32_t sign = (bits & 0x8000u) << 16;
    const uint32_t exponent = (bits >> 10) & 0x1fu;
    const uint32_t mantissa = bits & 0x3ffu;
    if (exponent == 0) {
      const float magnitude = static_cast<float>(mantissa) * 0x1p-24f;
      return sign ? -magnitude : magnitude;
    }
    if (exponent == 31) return float_from_bits(sign | 0x7f800000u | (mantissa << 13));
    return float_from_bits(sign | ((exponent + 112u) << 23) | (mantissa << 13));
  }
};

template <class T>
struct dtype_of;
template <>
struct dtype_of<float> {
  static constexpr DType value = DType::f32;
};
template <>
struct dtype_of<f16> {
  static constexpr DType value = DType::f16;
};
template <>
struct dtype_of<bf16> {
  static constexpr DType value = DType::bf16;
};

}  // namespace moe
