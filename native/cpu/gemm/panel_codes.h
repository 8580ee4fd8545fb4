// Where a panel of quantised weights keeps its codes: 16 k of all columns, then the next 16. Integers are centred on
// zero: half the range of unsigned ones has been subtracted. Those of 2 and 4 bits are then unsigned, with half their
// range added, as products of bytes read them; others are in two's complement.
//
// Codes of 8 bits are [k][column]. Others are cut into planes: 2 and 4 bits are a plane of their own, 3 bits are planes
// of the lower 2 and the upper bit, 5 of 4 and 1, 6 of 4 and 2. A plane of 2 or 4 bits is [word][column], where each of
// a column's words of 32 bits holds 16 or 8 k; a plane of one bit is a half word for each column.
#pragma once

#include <cstdint>

#include "core/formats/weight_format.h"

namespace moe::cpu {

constexpr int kUnit = 16;

constexpr bool packed_unsigned(int bits) { return bits == 2 || bits == 4; }
// The bit that is flipped in codes of this format when they are packed: the highest, or none.
constexpr uint32_t flipped_bit(const WeightFormat& format) {
  const bool is_unsigned = format.code == CodeType::unsigned_integer;
  const bool flips = is_unsigned != packed_unsigned(format.bits);
  return flips && (is_unsigned || format.code == CodeType::signed_integer) ? 1u << (format.bits - 1) : 0u;
}

// The upper plane's bits of each code.
constexpr int upper_bits(int bits) { return bits == 3 || bits == 5 ? 1 : bits == 6 ? 2 : 0; }

// The first bit of element k of a unit within a column's words. The words' lower halves hold the even k, so that a
// shift moves two consecutive k to corresponding places of both halves; and any four consecutive k are at corresponding
// places of a word's bytes.
constexpr int plane_bit(int width, int k) {
  constexpr int kByte[] = {0, 2, 1, 3};
  const int byte = kByte[k % 4], quad = k / 4;
  // Shifted by 12 and added to itself, a half word has the quad's bits in its four bytes too.
  if (width == 1) return byte % 2 * 8 + byte / 2 * 4 + quad;
  const int quads = 8 / width;
  return quad / quads * 32 + byte * 8 + quad % quads * width;
}

}  // namespace moe::cpu
