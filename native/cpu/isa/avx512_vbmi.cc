// Expanding units of grids with AVX-512 VBMI: the points of both pairs are looked up at once. See cpu/gemm/grid_units.h
// for where units are. And expanding the scales before them.
#include <immintrin.h>

#include <cstring>

#include "cpu/gemm/grid_units.h"
#include "cpu/isa/isa.h"

#define MOE_TARGET "avx2,bmi,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi"
#include "cpu/isa/target_begin.h"
namespace moe::cpu::avx512_vbmi {

namespace {

// Of a panel: a bit and a byte for each column of both pairs fill a mask and a register.
constexpr int kColumns = 32;

// A table of two bytes for each point: those of the codes' bytes 0 and 2, and of bytes 1 and 3.
template <GridCodes codes>
struct PointBytes {
  alignas(64) uint8_t low[codes.points()], high[codes.points()];

  PointBytes() {
    for (uint32_t i = 0; i < codes.points(); ++i) {
      const uint32_t word = point_words<codes>()[i];
      low[i] = static_cast<uint8_t>(word | word >> 12);
      high[i] = static_cast<uint8_t>(word >> 8 | word >> 20);
    }
  }
  static const PointBytes& made() {
    static const PointBytes bytes;
    return bytes;
  }
};

// The entries of numbers of `bits` bits: the lower seven select from two registers, of the others there is a mask each.
template <int bits>
[[gnu::always_inline]] inline __m512i find_points(const uint8_t* table, __m512i numbers, const __mmask64* upper) {
  if constexpr (bits == 7) {
    return _mm512_permutex2var_epi8(_mm512_load_si512(table), numbers, _mm512_load_si512(table + 64));
  } else {
    return _mm512_mask_mov_epi8(find_points<bits - 1>(table, numbers, upper), upper[bits - 8],
                                find_points<bits - 1>(table + (1 << (bits - 1)), numbers, upper));
  }
}

// Bit `bit` above the lower eight of the numbers of both pairs' first or second points.
template <GridCodes codes>
[[gnu::always_inline]] inline __mmask64 upper_bits(const char* group, int point, int bit) {
  __mmask64 bits;
  std::memcpy(&bits, group + GridGroup<codes>::kUpper * kColumns / 8 + 8 * (2 * bit + point), sizeof bits);
  return bits;
}

// Of each byte, the bits of b that the mask has, and the others of a.
template <int mask>
[[gnu::always_inline]] inline __m512i blended(__m512i a, __m512i b) {
  return _mm512_ternarylogic_epi32(_mm512_set1_epi8(static_cast<char>(mask)), b, a, 0xca);
}

// Writes the words of both pairs.
template <GridCodes codes>
[[gnu::always_inline]] inline void expand_words(const char* group, char* const (&words)[2]) {
  using Group = GridGroup<codes>;
  const PointBytes<codes>& table = PointBytes<codes>::made();
  __m512i low[2], high[2];
  for (int point = 0; point < 2; ++point) {
    const __m512i numbers = _mm512_loadu_si512(group + 64 * point);
    __mmask64 upper[1 + Group::kUpperBits] = {_mm512_movepi8_mask(numbers)};
    for (int bit = 0; bit < Group::kUpperBits; ++bit) upper[1 + bit] = upper_bits<codes>(group, point, bit);
    low[point] = find_points<codes.number_bits>(table.low, numbers, upper);
    high[point] = find_points<codes.number_bits>(table.high, numbers, upper);
  }
  // Byte i of all words.
  __m512i bytes[4];
  bytes[0] = blended<0xf0>(low[0], _mm512_slli_epi16(low[1], 4));
  bytes[1] = blended<0xf0>(high[0], _mm512_slli_epi16(high[1], 4));
  bytes[2] = blended<0xf0>(_mm512_srli_epi16(low[0], 4), low[1]);
  bytes[3] = blended<0xf0>(_mm512_srli_epi16(high[0], 4), high[1]);
  if constexpr (codes.coordinates == 4) {
    const __m512i signs = _mm512_loadu_si512(group + Group::kSigns * kColumns / 8);
    bytes[0] = blended<0x88>(bytes[0], signs);
    bytes[1] = blended<0x88>(bytes[1], _mm512_slli_epi16(signs, 1));
    bytes[2] = blended<0x88>(bytes[2], _mm512_slli_epi16(signs, 2));
    bytes[3] = blended<0x88>(bytes[3], _mm512_slli_epi16(signs, 3));
  }
  const __m512i halves[] = {_mm512_unpacklo_epi8(bytes[0], bytes[1]), _mm512_unpacklo_epi8(bytes[2], bytes[3]),
                            _mm512_unpackhi_epi8(bytes[0], bytes[1]), _mm512_unpackhi_epi8(bytes[2], bytes[3])};
  for (int pair = 0; pair < 2; ++pair) {
    _mm512_storeu_si512(words[pair], _mm512_unpacklo_epi16(halves[2 * pair], halves[2 * pair + 1]));
    _mm512_storeu_si512(words[pair] + 64, _mm512_unpackhi_epi16(halves[2 * pair], halves[2 * pair + 1]));
  }
}

template <GridCodes codes>
[[gnu::always_inline]] inline void expand_group(const char* group, char* expanded) {
  using Group = GridGroup<codes>;
  constexpr int kUnitBytes = (codes.coordinates == 4 ? 4 : 6) * kColumns;
  char* const words[] = {expanded, expanded + kUnitBytes};
  expand_words<codes>(group, words);
  if constexpr (codes.coordinates == 4) return;
  const char* const signs = group + Group::kSigns * kColumns / 8;
  for (int pair = 0; pair < 2; ++pair) {
    __m512i plane;
    if constexpr (Group::kOneSign) {
      __mmask32 of_points[2];
      std::memcpy(of_points, signs + 8 * pair, sizeof of_points);
      // Those of the quads of either point; see plane_bit().
      plane = _mm512_or_si512(_mm512_maskz_set1_epi16(of_points[0], 0x3333),
                              _mm512_maskz_set1_epi16(of_points[1], static_cast<short>(0xcccc)));
    } else {
      plane = _mm512_loadu_si512(signs + 64 * pair);
    }
    _mm512_storeu_si512(words[pair] + 128, plane);
  }
}

template <GridCodes codes>
void expand_groups(const char* units, int64_t count, char* expanded) {
  using Group = GridGroup<codes>;
  for (; count > 0; --count, units += Group::bytes(kColumns), expanded += Group::kExpandedBits * kColumns / 8) {
    expand_group<codes>(units, expanded);
  }
}

}  // namespace

void expand_grids(Grid grid, const char* units, int64_t steps, char* codes) {
  with_grid(grid, [&]<GridCodes own> { expand_groups<own>(units, steps * (kGridStep / GridGroup<own>::kK), codes); });
}

void expand_odd4(const char* stored, int64_t pairs, char* scales) {
  const __m256i lower = _mm256_set1_epi8(15), ones = _mm256_set1_epi8(1);
  const auto store = [&](__m256i numbers, char* to) {
    const __m256i values = _mm256_or_si256(_mm256_add_epi8(numbers, numbers), ones);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), values);
  };
  for (; pairs > 0; --pairs, stored += kColumns, scales += 2 * kColumns) {
    const __m256i both = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(stored));
    store(_mm256_and_si256(both, lower), scales);
    store(_mm256_and_si256(_mm256_srli_epi16(both, 4), lower), scales + kColumns);
  }
}

}  // namespace moe::cpu::avx512_vbmi
#include "cpu/isa/target_end.h"
