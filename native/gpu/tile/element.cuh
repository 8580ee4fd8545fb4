// Elements of any float storage type as float32: one at a time, and in vectors of N that move in as few accesses as
// possible.
#pragma once

#include <cstdint>

#include "core/dtype.h"

#include <ptx/convert.cuh>
#include <ptx/device.cuh>
#include <ptx/ld_st.cuh>

namespace moe::MOE_GPU_NAMESPACE {

__device__ __forceinline__ float to_float(float value) { return value; }
__device__ __forceinline__ float to_float(bf16 value) { return static_cast<float>(value); }
__device__ __forceinline__ float to_float(f16 value) { return ptx::cvt_f32_f16(value.bits); }

template <class T>
__device__ __forceinline__ T from_float(float value);
template <>
__device__ __forceinline__ float from_float<float>(float value) {
  return value;
}
template <>
__device__ __forceinline__ f16 from_float<f16>(float value) {
  f16 result;
  result.bits = ptx::cvt_rn_f16_f32(value);
  return result;
}
template <>
__device__ __forceinline__ bf16 from_float<bf16>(float value) {
  bf16 result;
  result.bits = ptx::cvt_rn_bf16_f32(value);
  return result;
}

// N elements, moved in words of the widest access that divides their size.
template <class T, int N>
union Vector {
  static constexpr int kBytes = N * static_cast<int>(sizeof(T));
  static_assert(kBytes == 4 || kBytes == 8 || kBytes % 16 == 0, "no vector access of this size");

  uint4 quads[kBytes >= 16 ? kBytes / 16 : 1];
  uint2 pair;
  uint32_t words[kBytes / 4];
  T elements[N];

  __device__ Vector() {}
};

// Whether vector accesses of N elements of T are aligned at `address` plus every multiple of `pitch`.
template <class T, int N>
bool vectors_aligned(const void* address, int64_t pitch) {
  constexpr uint64_t kAlignment = N * sizeof(T) < 16 ? N * sizeof(T) : 16;
  return reinterpret_cast<uint64_t>(address) % kAlignment == 0 && pitch * sizeof(T) % kAlignment == 0;
}

// N elements unchanged. `address` must be aligned to the vector, or to 16 bytes if that is larger.
template <class T, int N>
__device__ __forceinline__ void load_elements(const T* address, Vector<T, N>& vector) {
  constexpr int kBytes = Vector<T, N>::kBytes;
  if constexpr (kBytes == 4) {
    vector.words[0] = ptx::ld_global_32(address);
  } else if constexpr (kBytes == 8) {
    vector.pair = ptx::ld_global_64(address);
  } else {
#pragma unroll
    for (int i = 0; i < kBytes / 16; ++i) {
      vector.quads[i] = ptx::ld_global_128(reinterpret_cast<const char*>(address) + 16 * i);
    }
  }
}

template <class T, int N>
__device__ __forceinline__ void store_elements(T* address, const Vector<T, N>& vector) {
  constexpr int kBytes = Vector<T, N>::kBytes;
  if constexpr (kBytes == 4) {
    ptx::st_global_32(address, vector.words[0]);
  } else if constexpr (kBytes == 8) {
    ptx::st_global_64(address, vector.pair);
  } else {
#pragma unroll
    for (int i = 0; i < kBytes / 16; ++i) {
      ptx::st_global_128(reinterpret_cast<char*>(address) + 16 * i, vector.quads[i]);
    }
  }
}

template <class T, int N>
__device__ __forceinline__ void to_floats(const Vector<T, N>& vector, float (&values)[N]) {
#pragma unroll
  for (int i = 0; i < N; ++i) values[i] = to_float(vector.elements[i]);
}
// One instruction each, where the compiler would take the upper ones out and then shift them.
template <int N>
__device__ __forceinline__ void to_floats(const Vector<bf16, N>& vector, float (&values)[N]) {
#pragma unroll
  for (int pair = 0; pair < N / 2; ++pair) {
    const uint32_t word = vector.words[pair];
    values[2 * pair] = float_from_bits(word << 16);
    values[2 * pair + 1] = float_from_bits(word & 0xffff0000u);
  }
}

template <class T, int N>
__device__ __forceinline__ void load_vector(const T* address, float (&values)[N]) {
  Vector<T, N> vector;
  load_elements(address, vector);
  to_floats(vector, values);
}

template <class T, int N>
__device__ __forceinline__ void store_vector(T* address, const float (&values)[N]) {
  Vector<T, N> vector;
#pragma unroll
  for (int i = 0; i < N; ++i) vector.elements[i] = from_float<T>(values[i]);
  store_elements(address, vector);
}

// The first `count` elements, followed by zeros; in vectors if `aligned`.
template <class T, int N>
__device__ __forceinline__ void load_up_to(const T* address, int64_t count, bool aligned, float (&values)[N]) {
  if (aligned && count >= N) {
    load_vector(address, values);
    return;
  }
#pragma unroll
  for (int i = 0; i < N; ++i) values[i] = i < count ? to_float(address[i]) : 0.0f;
}

template <class T, int N>
__device__ __forceinline__ void store_up_to(T* address, int64_t count, bool aligned, const float (&values)[N]) {
  if (aligned && count >= N) {
    store_vector(address, values);
    return;
  }
#pragma unroll
  for (int i = 0; i < N; ++i) {
    if (i < count) address[i] = from_float<T>(values[i]);
  }
}

// Element `index` of an array whose float type is known only at run time.
__device__ __forceinline__ float load_as_float(const void* data, DType dtype, int64_t index) {
  switch (dtype) {
    case DType::f16: return to_float(static_cast<const f16*>(data)[index]);
    case DType::bf16: return to_float(static_cast<const bf16*>(data)[index]);
    default: return static_cast<const float*>(data)[index];
  }
}

// Loads and stores from `index` on in such an array.
template <int N>
__device__ __forceinline__ void load_up_to(const void* data, DType dtype, int64_t index, int64_t count, bool aligned,
                                           float (&values)[N]) {
  switch (dtype) {
    case DType::f16: return load_up_to(static_cast<const f16*>(data) + index, count, aligned, values);
    case DType::bf16: return load_up_to(static_cast<const bf16*>(data) + index, count, aligned, values);
    default: return load_up_to(static_cast<const float*>(data) + index, count, aligned, values);
  }
}
template <int N>
__device__ __forceinline__ void store_up_to(void* data, DType dtype, int64_t index, int64_t count, bool aligned,
                                            const float (&values)[N]) {
  switch (dtype) {
    case DType::f16: return store_up_to(static_cast<f16*>(data) + index, count, aligned, values);
    case DType::bf16: return store_up_to(static_cast<bf16*>(data) + index, count, aligned, values);
    default: return store_up_to(static_cast<float*>(data) + index, count, aligned, values);
  }
}

}  // namespace moe::MOE_GPU_NAMESPACE
