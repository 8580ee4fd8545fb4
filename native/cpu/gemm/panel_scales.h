// Where a panel of quantised weights keeps the scales and offsets of its groups: before the codes, one level after the
// other, each as [group][column] in its panel_type().
#pragma once

#include <bit>
#include <cstdint>

#include "core/formats/tables.h"

namespace moe::cpu {

// Bytes of a cache line, which one prefetch brings.
constexpr int64_t kLineBytes = 64;

// A group is a whole number of segments of k. Integers are summed over a whole group. Floats are summed over some of
// its segments: over no more k than kLongestSum, and so that the sums come in fours, because tiles of few rows work on
// four at once.
constexpr int kLongestSum = 128;
constexpr int kSumsAtOnce = 4;
constexpr int segment_of(const WeightFormat& format) {
  return format.scales.columns % 32 == 0 && format.super_scales.columns % 32 == 0 ? 32 : 16;
}

// The type in which kernels read a level. Of odd4 they read the values, so no kernel knows it.
constexpr ScaleType panel_type(ScaleType type) { return type == ScaleType::odd4 ? ScaleType::i8 : type; }

// What the codes of unsigned integers are lowered by when they are packed. Offsets take it back: as the codes are
// centred on zero, little cancels.
constexpr float lowered_by(const WeightFormat& format) {
  return format.code == CodeType::unsigned_integer ? static_cast<float>(1 << (format.bits - 1)) : 0.0f;
}

// The smallest power of two that makes all values of a table integers of a byte; 0 if there is none.
constexpr int table_unit(const WeightFormat& format) {
  if (format.code != CodeType::table) return 0;
  for (int unit = 1; unit <= 8; unit *= 2) {
    bool integers = true;
    for (const float value : format.table) {
      const float scaled = value * static_cast<float>(unit);
      integers = integers && scaled >= -128 && scaled <= 127 && static_cast<float>(static_cast<int>(scaled)) == scaled;
    }
    if (integers) return unit;
  }
  return 0;
}
// Whether codes of `bits` bits stand for integers of a byte, with magnitudes below `limit`.
template <int bits, int limit = 129>
constexpr bool takes_integer_table(const WeightFormat& format) {
  if (format.bits != bits) return false;
  const int unit = table_unit(format);
  if (limit > 128) return unit != 0;
  bool small = unit != 0;
  for (const float value : format.table) {
    const float integer = value * static_cast<float>(unit);
    small = small && integer > -limit && integer < limit;
  }
  return small;
}

// The values of ScaleType::dynamic8.
struct Dynamic8Table {
  float values[256] = {};
  constexpr Dynamic8Table() {
    for (uint32_t code = 0; code < 256; ++code) values[code] = dynamic8_value(code);
  }
};
inline constexpr Dynamic8Table kDynamic8Table;

struct PanelLevel {
  ScaleType type = ScaleType::f32;
  bool upper = false;    // of u4: in the upper halves of bytes
  int64_t at = -1;       // the first byte within a panel
  int64_t groups = 0;    // of k
  int64_t segments = 1;  // of each group

  bool absent() const { return at < 0; }
};

struct PanelLevels {
  PanelLevel scales, super_scales, zeros, super_zeros;
  int64_t bytes = 0;  // of all levels, in whole cache lines
};

// The levels of panels of a quantised format with this many columns and k. If they are `compact`, scales of odd4 stay
// in half a byte: a byte of [pair of groups][column] has that of the first group below that of the second.
PanelLevels panel_levels(const WeightFormat& format, int64_t panel_columns, int64_t padded_k, bool compact);

struct PanelScales : PanelLevels {
  PanelScales() = default;
  // As kernels read them.
  PanelScales(const WeightFormat& format, int64_t panel_columns, int64_t padded_k);

  // The same levels, which count groups of `scales`, or sums of floats, in place of segments.
  PanelLevels of_groups, of_sums;
  int segment = 0;
  int sum = 0;                   // k that floats sum before they scale it: a segment times a power of two
  bool zeros_are_codes = false;  // zeros are subtracted before scaling
  bool offsets_scales = false;   // super zeros are added to scales times super scales
  bool one_level = false;        // one level of scales in a type of floating point or e8m0, and no offsets
  float lowered = 0;             // see lowered_by()
  float code_unit = 1;           // one, in the numbers that kernels read codes as
  // What codes of at most six bits are read as, as often as fits: bits above a code's do not matter.
  static constexpr int kTableSize = 64;
  float table[kTableSize] = {};

  // How many segments there are in k, a multiple of a segment.
  int64_t segments_in(int64_t k) const { return segment == 32 ? k / 32 : k / 16; }
  int64_t sums_in(int64_t k) const { return k >> std::countr_zero(static_cast<unsigned>(sum)); }
  // Whether a sum of codes alone does not give the result.
  bool have_offset() const { return !zeros.absent() || lowered != 0; }

 private:
  void fill_table(const WeightFormat& format, int unit);
};

}  // namespace moe::cpu
