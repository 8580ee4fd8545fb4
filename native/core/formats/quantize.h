// How floats become codes and scales: the one definition, for all devices, in float32 operation by operation, so that
// all give the same bits. lib/reference/formats/quantize.ts is the same.
#pragma once

#include "core/formats/code_bytes.h"
#include "core/formats/dequantize.h"

namespace moe {

// Whether anything can be quantised to a format: codes need a scale, which is not nested (in dynamic8, with an offset),
// and unsigned ones an offset. Runs of eight codes, which fill whole bytes, must not cross groups.
constexpr int kCodeRun = 8;
constexpr bool can_quantize(const WeightFormat& format) {
  return !format.plain() && !format.scales.absent() && format.offset != Offset::scale_offset &&
         format.scales.columns % kCodeRun == 0 &&
         (format.code != CodeType::unsigned_integer || format.offset != Offset::none);
}

// How the groups of a level divide a matrix.
struct GroupGrid {
  int64_t group_rows, group_columns;  // of one group; the last ones may be smaller
  int64_t rows, columns;              // groups

  MOE_HOST_DEVICE constexpr int64_t count() const { return rows * columns; }
};

MOE_HOST_DEVICE constexpr GroupGrid group_grid(const ScaleLevel& level, int64_t rows, int64_t columns) {
  const int64_t width = level.columns == 0 ? columns : level.columns;
  return {level.rows, width, level.row_groups(rows), level.column_groups(columns)};
}

struct Interval {
  float lowest, highest;
};

// The least and the greatest value of a format's codes.
MOE_HOST_DEVICE inline Interval code_range(const WeightFormat& format) {
  const int half = 1 << (format.bits - 1);
  switch (format.code) {
    case CodeType::signed_integer: return {static_cast<float>(-half), static_cast<float>(half - 1)};
    case CodeType::unsigned_integer: return {0.0f, static_cast<float>(2 * half - 1)};
    case CodeType::table: break;
    default: return {-448.0f, 448.0f};
  }
  Interval range = {format.table[0], format.table[0]};
  for (int i = 1; i < 1 << format.bits; ++i) {
    range.lowest = format.table[i] < range.lowest ? format.table[i] : range.lowest;
    range.highest = format.table[i] > range.highest ? format.table[i] : range.highest;
  }
  return range;
}

// The scale of a type that is nearest to a value, as bits; of e8m0, the one above, as the one below would cut off up to
// half of a group's largest element. Values out of range become the largest or smallest in it.
MOE_HOST_DEVICE inline uint32_t encode_scale(ScaleType type, float value) {
  switch (type) {
    case ScaleType::f32: return float_bits(clamped(value, -0x1.fffffep127f, 0x1.fffffep127f));
    case ScaleType::f16: return f16(clamped(value, -65504.0f, 65504.0f)).bits;
    case ScaleType::bf16: return bf16(clamped(value, -0x1.fep127f, 0x1.fep127f)).bits;
    case ScaleType::e4m3: return to_e4m3(value);
    case ScaleType::e8m0: return to_e8m0(value);
    case ScaleType::u4: return static_cast<uint32_t>(to_integer(clamped(value, 0.0f, 15.0f)));
    case ScaleType::u6: return static_cast<uint32_t>(to_integer(clamped(value, 0.0f, 63.0f)));
    case ScaleType::i8: {
      const auto integer = static_cast<int32_t>(to_integer(clamped(value, -128.0f, 127.0f)));
      return static_cast<uint32_t>(integer) & 0xffu;
    }
    case ScaleType::odd4:
    case ScaleType::dynamic8: break;  // See can_quantize().
  }
  return 0;
}

// The least and the greatest of a group's elements; with 0, unless the group's minimum can have either sign. Begin with
// empty_interval().
MOE_HOST_DEVICE constexpr bool has_signed_minimum(const WeightFormat& format) {
  return format.offset == Offset::minimum && format.scales.type != ScaleType::u4 && format.scales.type != ScaleType::u6;
}
MOE_HOST_DEVICE inline Interval empty_interval(const WeightFormat& format) {
  const float largest = 0x1.fffffep127f;
  return has_signed_minimum(format) ? Interval{largest, -largest} : Interval{0.0f, 0.0f};
}
MOE_HOST_DEVICE inline Interval united(Interval a, Interval b) {
  return {a.lowest < b.lowest ? a.lowest : b.lowest, a.highest > b.highest ? a.highest : b.highest};
}

// An element to quantise. What is not finite counts as 0, and so does -0.
MOE_HOST_DEVICE inline float finite_element(uint32_t bits) {
  return (bits & 0x7f800000u) == 0x7f800000u ? 0.0f : float_from_bits(bits) + 0.0f;
}
MOE_HOST_DEVICE inline float element_to_quantize(const MatrixView& values, int64_t row, int64_t column) {
  switch (values.dtype) {
    case DType::f16: return finite_element(float_bits(from_f16(element_bits(values, 2, row, column))));
    case DType::bf16: return finite_element(element_bits(values, 2, row, column) << 16);
    default: return finite_element(element_bits(values, 4, row, column));
  }
}

// What a group's codes are multiplied by and what is subtracted, before they are encoded.
struct GroupScale {
  float scale;
  float minimum;
};

// The scale at which the codes just reach the elements of an interval; with an offset the interval is moved.
MOE_HOST_DEVICE inline GroupScale reaching_scale(const WeightFormat& format, Interval codes, Interval elements) {
  if (format.offset == Offset::none) {
    const float above = elements.highest / codes.highest;
    const float below = codes.lowest < 0.0f ? elements.lowest / codes.lowest : 0.0f;
    return {below > above ? below : above, 0.0f};
  }
  const float scale = (elements.highest - elements.lowest) / (codes.highest - codes.lowest);
  return {scale, codes.lowest * scale - elements.lowest};
}

// The scales that a search tries: the interval of a group's elements is made this much wider, or narrower, about its
// middle, or about 0 if there is no offset. Without a search it is left as it is.
constexpr int kScaleCandidates = 24;
MOE_HOST_DEVICE inline float candidate_width(int candidate, bool search) {
  return search ? 1.125f - 0.03125f * static_cast<float>(candidate) : 1.0f;
}
MOE_HOST_DEVICE inline Interval narrowed(const WeightFormat& format, Interval elements, float width) {
  if (format.offset == Offset::none) return {elements.lowest * width, elements.highest * width};
  const float margin = (0.5f - 0.5f * width) * (elements.highest - elements.lowest);
  return {elements.lowest + margin, elements.highest - margin};
}

// The largest value of a type of scales that have a scale of their own.
MOE_HOST_DEVICE inline float largest_scale(ScaleType type) {
  switch (type) {
    case ScaleType::e4m3: return 448.0f;
    case ScaleType::u4: return 15.0f;
    case ScaleType::u6: return 63.0f;
    case ScaleType::i8: return 127.0f;
    default: return 1.0f;
  }
}

// The scale of scales whose largest is `largest`, as bits; 1 if they are all 0. For float scales it is a power of two:
// it only has to move their range, and as a power of two it can be stored as its reciprocal as well.
MOE_HOST_DEVICE inline uint32_t encode_super_scale(const WeightFormat& format, float largest) {
  const ScaleType scale = format.scales.type, type = format.super_scales.type;
  if (!(largest > 0.0f)) return encode_scale(type, 1.0f);
  const float value = largest / largest_scale(scale);
  const bool is_float = scale <= ScaleType::e8m0;
  return encode_scale(type, is_float ? from_e8m0(to_e8m0(value)) : value);
}

// A group's scale and its zero point or minimum as they are stored, and what they are in float32.
struct EncodedGroup {
  uint32_t scale_bits, zero_bits;
  float scale;
  float zero_point;
  float minimum;
};

MOE_HOST_DEVICE inline EncodedGroup encode_group(const WeightFormat& format, Interval codes, Interval elements,
                                                 float super_scale, float super_zero) {
  const GroupScale ideal = reaching_scale(format, codes, elements);
  EncodedGroup group = {};
  group.scale_bits = encode_scale(format.scales.type, super_scale > 0.0f ? ideal.scale / super_scale : 0.0f);
  group.scale = scale_value(format.scales.type, group.scale_bits) * super_scale;
  if (format.offset == Offset::zero_point) {
    const float most = static_cast<float>((1 << format.bits) - 1);
    const float zero = group.scale > 0.0f ? codes.lowest - elements.lowest / group.scale : 0.0f;
    group.zero_point = to_integer(clamped(zero, 0.0f, most));
    group.zero_bits = static_cast<uint32_t>(group.zero_point);
  } else if (format.offset == Offset::minimum) {
    group.zero_bits = encode_scale(format.scales.type, super_zero > 0.0f ? ideal.minimum / super_zero : 0.0f);
    group.minimum = scale_value(format.scales.type, group.zero_bits) * super_zero;
  }
  return group;
}

// The code whose value is nearest; of two, the even one.
MOE_HOST_DEVICE inline uint32_t nearest_code(const WeightFormat& format, Interval codes, float value) {
  if (format.code == CodeType::table) {
    // From a value far beyond them, all entries would be equally far.
    value = clamped(value, codes.lowest, codes.highest);
    uint32_t nearest = 0;
    float least = 0x1.fffffep127f;
    for (uint32_t code = 0; code < 1u << format.bits; ++code) {
      const float difference = format.table[code] - value;
      const float distance = difference < 0.0f ? -difference : difference;
      if (distance < least || (distance == least && (nearest & 1u) != 0 && (code & 1u) == 0)) {
        nearest = code;
        least = distance;
      }
    }
    return nearest;
  }
  if (format.code == CodeType::e4m3) return to_e4m3(value);
  const auto integer = static_cast<int32_t>(to_integer(clamped(value, codes.lowest, codes.highest)));
  return static_cast<uint32_t>(integer) & ((1u << format.bits) - 1u);
}

// What the code of an element in its group is to be nearest to.
MOE_HOST_DEVICE inline float scaled_element(const EncodedGroup& group, float element) {
  const float scaled = group.scale > 0.0f ? (element + group.minimum) / group.scale : 0.0f;
  return scaled + group.zero_point;
}

// The value of a code in its group.
MOE_HOST_DEVICE inline float dequantized(const EncodedGroup& group, float code) {
  return (code - group.zero_point) * group.scale - group.minimum;
}

// The code of an element in its group.
MOE_HOST_DEVICE inline uint32_t quantize_element(const WeightFormat& format, Interval codes, const EncodedGroup& group,
                                                 float element) {
  return nearest_code(format, codes, scaled_element(group, element));
}

// What an element adds to the sum of squares that a search makes least.
MOE_HOST_DEVICE inline float squared_error(const WeightFormat& format, Interval codes, const EncodedGroup& group,
                                           float element) {
  const float code = code_value(format, quantize_element(format, codes, group, element));
  const float error = dequantized(group, code) - element;
  return error * error;
}

// A group that has been stored, by one of its elements.
MOE_HOST_DEVICE inline EncodedGroup stored_group(const WeightFormat& format, const WeightView& weight, int64_t row,
                                                 int64_t column) {
  EncodedGroup group = {};
  group.scale = group_scale(format, weight, row, column);
  group.zero_point = zero_point(format, weight, row, column);
  if (format.offset == Offset::minimum) group.minimum = group_minimum(format, weight, row, column);
  return group;
}

// The codes of up to eight elements of a row, element(0) .. element(count - 1), from a run's first column on.
template <class Element>
MOE_HOST_DEVICE void quantize_run(const WeightFormat& format, Interval codes, const EncodedGroup& group, int count,
                                  uint8_t* target, Element&& element) {
  write_codes(format.bits, count, target, [&](int i) { return quantize_element(format, codes, group, element(i)); });
}

// The groups of scales that share a scale of their own. A level of whole rows has one value for the whole matrix, kept
// for each row.
struct SuperGroups {
  GroupGrid grid;   // of the scales
  GroupGrid super;  // of their scales
  bool whole;

  MOE_HOST_DEVICE SuperGroups(const WeightFormat& format, int64_t rows, int64_t columns)
      : grid(group_grid(format.scales, rows, columns)),
        super(group_grid(format.super_scales, rows, columns)),
        whole(format.super_scales.columns == 0) {}

  // Units that are computed, each one value or that of the whole matrix.
  MOE_HOST_DEVICE int64_t units() const { return whole ? 1 : super.count(); }
  // The scales of a unit: their number, and the index of each.
  MOE_HOST_DEVICE int64_t rows_of(int64_t unit) const {
    return whole ? grid.rows : least(super.group_rows / grid.group_rows, grid.rows - first_row(unit));
  }
  MOE_HOST_DEVICE int64_t columns_of(int64_t unit) const {
    return whole ? grid.columns : least(super.group_columns / grid.group_columns, grid.columns - first_column(unit));
  }
  MOE_HOST_DEVICE int64_t index(int64_t unit, int64_t i) const {
    const int64_t width = columns_of(unit);
    return (first_row(unit) + i / width) * grid.columns + first_column(unit) + i % width;
  }

 private:
  MOE_HOST_DEVICE static int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }
  MOE_HOST_DEVICE int64_t first_row(int64_t unit) const {
    return whole ? 0 : unit / super.columns * (super.group_rows / grid.group_rows);
  }
  MOE_HOST_DEVICE int64_t first_column(int64_t unit) const {
    return whole ? 0 : unit % super.columns * (super.group_columns / grid.group_columns);
  }
};

// Stores the bits of scale `index`.
MOE_HOST_DEVICE inline void store_scale(void* scales, int bytes, int64_t index, uint32_t bits) {
  char* place = static_cast<char*>(scales) + index * bytes;
  const auto half = static_cast<uint16_t>(bits);
  switch (bytes) {
    case 4: memcpy(place, &bits, 4); break;
    case 2: memcpy(place, &half, 2); break;
    default: *place = static_cast<char>(bits);
  }
}

}  // namespace moe
