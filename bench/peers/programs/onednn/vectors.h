#pragma once

#include <immintrin.h>

#include <cmath>
#include <cstddef>
#include <cstdint>

// Loops over rows in AVX-512; counts of columns are multiples of 64.

using BFloat16 = std::uint16_t;

inline __m512 load_bf16(const BFloat16* from) {
  return _mm512_castsi512_ps(
      _mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from))), 16));
}

inline void store_bf16(BFloat16* to, __m512 value) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(value)));
}

/** e^x with a relative error of some 1e-7; x is clamped to what float32 can hold. */
inline __m512 exp_ps(__m512 x) {
  x = _mm512_min_ps(_mm512_max_ps(x, _mm512_set1_ps(-87.0F)), _mm512_set1_ps(88.0F));
  const __m512 n = _mm512_roundscale_ps(_mm512_mul_ps(x, _mm512_set1_ps(1.44269504F)), 0);
  __m512 r = _mm512_fnmadd_ps(n, _mm512_set1_ps(0.693359375F), x);
  r = _mm512_fnmadd_ps(n, _mm512_set1_ps(-2.12194440e-4F), r);
  __m512 p = _mm512_set1_ps(1.0F / 720);
  for (const float c : {1.0F / 120, 1.0F / 24, 1.0F / 6, 0.5F, 1.0F, 1.0F})
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(c));
  return _mm512_scalef_ps(p, n);
}

/** silu(gate) * up */
inline __m512 swiglu(__m512 gate, __m512 up) {
  const __m512 one = _mm512_set1_ps(1.0F);
  const __m512 divisor = _mm512_add_ps(one, exp_ps(_mm512_sub_ps(_mm512_setzero_ps(), gate)));
  __m512 inverse = _mm512_rcp14_ps(divisor);
  inverse = _mm512_mul_ps(inverse, _mm512_fnmadd_ps(divisor, inverse, _mm512_set1_ps(2.0F)));
  return _mm512_mul_ps(_mm512_mul_ps(gate, inverse), up);
}

/** Rounds a row to int8 by its largest element; returns the scale. `load(column)` gives 16 values. */
template <class Load>
float quantize_row(std::int8_t* codes, std::size_t columns, Load load) {
  __m512 largest = _mm512_setzero_ps();
  for (std::size_t column = 0; column < columns; column += 16) {
    largest = _mm512_max_ps(largest, _mm512_abs_ps(load(column)));
  }
  const float most = _mm512_reduce_max_ps(largest);
  const __m512 inverse = _mm512_set1_ps(most == 0 ? 0 : 127 / most);
  for (std::size_t column = 0; column < columns; column += 16) {
    const __m512i rounded = _mm512_cvtps_epi32(_mm512_mul_ps(load(column), inverse));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(codes + column), _mm512_cvtsepi32_epi8(rounded));
  }
  return most / 127;
}
