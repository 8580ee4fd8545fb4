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
// from -2^(bits - 1) where they are signed. A kernel may know no e2m1, which is a table too.
enum class Codes { integers, table, e4m3, e2m1 };

__device__ __forceinline__ int zero_of_codes(const WeightFormat& format) {
  return format.code == CodeType::signed_integer ? 1 << (format.bits - 1) : 0;
}

// E4M3 without its NaN, which packed weights do not have.
__device__ __forceinline__ float value_of_e4m3(uint32_t code) {
  return float_from_bits((code & 0x80u) << 24 | (code & 0x7fu) << 20) * 0x1p120f;
}

// Value `index` of 1, 2 or 4 bytes.
__device__ __forceinline__ uint32_t load_value(const char* values, int bytes, int64_t index) {
  if (bytes == 1) return reinterpret_cast<const uint8_t*>(values)[index];
  if (bytes == 2) return reinterpret_cast<const uint16_t*>(values)[index];
  return reinterpret_cast<const uint32_t*>(values)[index];
}
// Four values from `index` on, a multiple of four, in shared memory.
__device__ __forceinline__ void load_values(const char* values, int bytes, int index, uint32_t (&bits)[4]) {
  const char* first = values + index * bytes;
  if (bytes == 1) {
    const uint32_t word = ptx::ld_shared_32(first);
#pragma unroll
    for (int i = 0; i < 4; ++i) bits[i] = word >> 8 * i & 0xffu;
  } else if (bytes == 2) {
    const uint2 words = ptx::ld_shared_64(first);
    bits[0] = words.x & 0xffffu, bits[1] = words.x >> 16, bits[2] = words.y & 0xffffu, bits[3] = words.y >> 16;
  } else {
    const uint4 words = ptx::ld_shared_128(first);
    bits[0] = words.x, bits[1] = words.y, bits[2] = words.z, bits[3] = words.w;
  }
}

// The values of one group of N rows of a packed matrix, as they are in memory.
template <int N>
struct GroupValues {
  uint32_t scale[N], super_scale[N], zero[N], super_zero[N];
};

// Their scales and minima. value = (code - zero point) * scale - minimum.
template <int N>
struct GroupScale {
  float scale[N], minimum[N];
};

// values[i] *= the scale of these bits. The type is looked at once for all.
template <int N>
__device__ __forceinline__ void multiply_by_scales(ScaleType type, const uint32_t (&bits)[N], float (&values)[N]) {
  const auto multiply = [&](auto&& scale_of) {
#pragma unroll
    for (int i = 0; i < N; ++i) values[i] *= scale_of(bits[i]);
  };
  switch (type) {
    case ScaleType::f32: return multiply(float_from_bits);
    case ScaleType::f16: return multiply([](uint32_t half) { return ptx::cvt_f32_f16(static_cast<uint16_t>(half)); });
    case ScaleType::bf16: return multiply(from_bf16);
    case ScaleType::e4m3: return multiply(value_of_e4m3);
    case ScaleType::e8m0: return multiply(from_e8m0);
    case ScaleType::i8: return multiply([](uint32_t byte) { return static_cast<float>(static_cast<int8_t>(byte)); });
    case ScaleType::odd4: return multiply([](uint32_t byte) { return static_cast<float>(odd4_value(byte)); });
    case ScaleType::u4:
    case ScaleType::u6: return multiply([](uint32_t number) { return static_cast<float>(number); });
    case ScaleType::dynamic8:
      // Tensor cores, whose groups come several at once, take no such format: its values take a division.
      if constexpr (N == 1) multiply(dynamic8_value);
  }
}

template <int N>
__device__ __forceinline__ GroupScale<N> scale_of_group(const WeightFormat& format, const GroupValues<N>& values) {
  const bool shared = gpu::shares_byte(format), has_super = !format.super_scales.absent();
  const auto numbers = [&](const uint32_t(&bits)[N], const uint32_t(&super_bits)[N], float(&results)[N]) {
#pragma unroll
    for (int i = 0; i < N; ++i) results[i] = 1.0f;
    multiply_by_scales(format.scales.type, bits, results);
    if (has_super) multiply_by_scales(format.super_scales.type, super_bits, results);
  };
  uint32_t scales[N], minima[N];
#pragma unroll
  for (int i = 0; i < N; ++i) {
    scales[i] = shared ? values.scale[i] & 15u : values.scale[i];
    minima[i] = shared ? values.scale[i] >> 4 : values.zero[i];
  }
  GroupScale<N> group = {};
  numbers(scales, values.super_scale, group.scale);
  if (format.offset == Offset::minimum) numbers(minima, values.super_zero, group.minimum);
  return group;
}

}  // namespace moe::MOE_GPU_NAMESPACE
