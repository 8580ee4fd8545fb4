// Parts of kernels that read packed weights of quantised formats; see gemm/quantized_layout.h.
#pragma once

#include <cstdint>

#include "core/formats/dequantize.h"
#include "gpu/gemm/gemm_arguments.cuh"
#include "gpu/gemm/quantized_layout.h"

#include <ptx/convert.cuh>
#include <ptx/ld_st.cuh>

namespace moe::MOE_GPU_NAMESPACE {

// What codes are, as far as kernels are compiled for it. Integers count from the group's zero point, from 0, or
// from -2^(bits - 1) where they are signed.
enum class Codes { integers, table, e4m3 };

__device__ __forceinline__ int zero_of_codes(const WeightFormat& format) {
  return format.code == CodeType::signed_integer ? 1 << (format.bits - 1) : 0;
}

// E4M3 without its NaN, which packed weights do not have.
__device__ __forceinline__ float value_of_e4m3(uint32_t code) {
  return float_from_bits((code & 0x80u) << 24 | (code & 0x7fu) << 20) * 0x1p120f;
}

__device__ __forceinline__ float value_of_scale(ScaleType type, uint32_t bits) {
  return type == ScaleType::f16 ? ptx::cvt_f32_f16(static_cast<uint16_t>(bits)) : scale_value(type, bits);
}

// Value `index` of 1, 2 or 4 bytes.
__device__ __forceinline__ uint32_t load_value(const char* values, int bytes, int64_t index) {
  if (bytes == 1) return reinterpret_cast<const uint8_t*>(values)[index];
  if (bytes == 2) return reinterpret_cast<const uint16_t*>(values)[index];
  return reinterpret_cast<const uint32_t*>(values)[index];
}

// The values of one group of a row, as they are in memory.
struct GroupValues {
  uint32_t scale, super_scale, zero, super_zero;
};

// The scale and the minimum of one group. value = (code - zero point) * scale - minimum.
struct GroupScale {
  float scale, minimum;
};

__device__ __forceinline__ GroupScale scale_of_group(const WeightFormat& format, const GroupValues& values) {
  const ScaleType type = format.scales.type, super_type = format.super_scales.type;
  const bool shared = gpu::shares_byte(format), has_super = !format.super_scales.absent();
  GroupScale group;
  group.scale = value_of_scale(type, shared ? values.scale & 15u : values.scale);
  if (has_super) group.scale *= value_of_scale(super_type, values.super_scale);
  group.minimum = 0.0f;
  if (format.offset == Offset::minimum) {
    group.minimum = value_of_scale(type, shared ? values.scale >> 4 : values.zero);
    if (has_super) group.minimum *= value_of_scale(super_type, values.super_zero);
  }
  return group;
}

}  // namespace moe::MOE_GPU_NAMESPACE
