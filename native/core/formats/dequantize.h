// What the codes of a weight mean: the one definition, for all devices. lib/reference/formats/dequantize.ts is the same
// in float64.
#pragma once

#include "core/formats/grids.h"
#include "core/formats/small_numbers.h"
#include "core/formats/tables.h"
#include "core/formats/weight_view.h"

namespace moe {

MOE_HOST_DEVICE inline float from_f16(uint32_t bits) {
  f16 half;
  half.bits = static_cast<uint16_t>(bits);
  return static_cast<float>(half);
}
MOE_HOST_DEVICE inline float from_bf16(uint32_t bits) { return float_from_bits(bits << 16); }

// The value of one code, before any scale.
MOE_HOST_DEVICE inline float code_value(const WeightFormat& format, uint32_t raw) {
  switch (format.code) {
    case CodeType::f32: return float_from_bits(raw);
    case CodeType::f16: return from_f16(raw);
    case CodeType::bf16: return from_bf16(raw);
    case CodeType::e4m3: return from_e4m3(raw);
    case CodeType::signed_integer: {
      const int shift = 32 - format.bits;
      return static_cast<float>(static_cast<int32_t>(raw << shift) >> shift);
    }
    case CodeType::unsigned_integer: return static_cast<float>(raw);
    case CodeType::table: return format.table[raw];
  }
  return 0.0f;
}

// The bits of element (row, column) of a matrix with strides, of 1, 2 or 4 bytes.
MOE_HOST_DEVICE inline uint32_t element_bits(const MatrixView& matrix, int bytes, int64_t row, int64_t column) {
  const char* place =
      static_cast<const char*>(matrix.data) + (row * matrix.row_stride + column * matrix.column_stride) * bytes;
  // Sizes known to the compiler: a copy of any size would put the bits into local memory on a GPU.
  uint32_t bits = 0;
  uint16_t half = 0;
  switch (bytes) {
    case 4: memcpy(&bits, place, 4); return bits;
    case 2: memcpy(&half, place, 2); return half;
    default: return static_cast<uint8_t>(*place);
  }
}

// `bits` bits of a row, at most 26, from bit `first` on.
MOE_HOST_DEVICE inline uint32_t bits_of_row(const MatrixView& codes, int64_t row, int64_t first, int bits) {
  const int low = static_cast<int>(first & 7);
  uint32_t found = element_bits(codes, 1, row, first >> 3) >> low;
  for (int held = 8 - low; held < bits; held += 8) {
    found |= element_bits(codes, 1, row, (first + held) >> 3) << held;
  }
  return found & ((1u << bits) - 1u);
}

// The code of element (row, column). Those of a row are packed without gaps and may cross bytes.
MOE_HOST_DEVICE inline uint32_t code_bits(const WeightFormat& format, const MatrixView& codes, int64_t row,
                                          int64_t column) {
  if (format.plain()) return element_bits(codes, format.bits / 8, row, column);
  const int bits = format.unit_bits();
  if (format.grid.absent()) return bits_of_row(codes, row, column * bits, bits);
  return code_of_unit(format.grid, bits_of_row(codes, row, column / 8 * bits, bits), static_cast<int>(column % 8));
}

// The value of a scale by its bits.
MOE_HOST_DEVICE inline float scale_value(ScaleType type, uint32_t bits) {
  switch (type) {
    case ScaleType::f32: return float_from_bits(bits);
    case ScaleType::f16: return from_f16(bits);
    case ScaleType::bf16: return from_bf16(bits);
    case ScaleType::e4m3: return from_e4m3(bits);
    case ScaleType::e8m0: return from_e8m0(bits);
    case ScaleType::u4:
    case ScaleType::u6: return static_cast<float>(bits);
    case ScaleType::i8: return static_cast<float>(static_cast<int8_t>(bits));
    case ScaleType::odd4: return static_cast<float>(odd4_value(bits));
    case ScaleType::dynamic8: return dynamic8_value(bits);
  }
  return 1.0f;
}

// One level's value in the group of element (row, column), or `absent` if the format does not have the level.
MOE_HOST_DEVICE inline float level_value(const ScaleLevel& level, const MatrixView& values, int64_t row, int64_t column,
                                         float absent) {
  if (level.absent() || values.absent()) return absent;
  const int64_t group = level.column_group(column);
  return scale_value(level.type, element_bits(values, scale_bytes(level.type), row / level.rows, group));
}

// The zero point of the group of element (row, column): an integer as wide as the format's codes, one byte each.
MOE_HOST_DEVICE inline float zero_point(const WeightFormat& format, const WeightView& weight, int64_t row,
                                        int64_t column) {
  if (format.offset != Offset::zero_point) return 0.0f;
  const int64_t group = format.scales.column_group(column);
  return static_cast<float>(element_bits(weight.zeros, 1, row / format.scales.rows, group));
}

// What multiplies a code minus its zero point.
MOE_HOST_DEVICE inline float group_scale(const WeightFormat& format, const WeightView& weight, int64_t row,
                                         int64_t column) {
  float scale = level_value(format.scales, weight.scales, row, column, 1.0f) *
                level_value(format.super_scales, weight.super_scales, row, column, 1.0f);
  if (format.offset == Offset::scale_offset) {
    scale += level_value(format.super_zeros(), weight.super_zeros, row, column, 0.0f);
  }
  return scale * weight.scalar;
}

// What is subtracted after scaling, if the format has minima.
MOE_HOST_DEVICE inline float group_minimum(const WeightFormat& format, const WeightView& weight, int64_t row,
                                           int64_t column) {
  return level_value(format.scales, weight.zeros, row, column, 0.0f) *
         level_value(format.super_scales, weight.super_zeros, row, column, 1.0f);
}

// The value of the element stored at (row, column), which multiplies input input_of(weight, column). `format` is the
// weight's own, in memory that the caller can read.
MOE_HOST_DEVICE inline float dequantize(const WeightFormat& format, const WeightView& weight, int64_t row,
                                        int64_t column) {
  const float code = code_value(format, code_bits(format, weight.codes, row, column));
  float value = (code - zero_point(format, weight, row, column)) * group_scale(format, weight, row, column);
  if (format.offset == Offset::minimum) value -= group_minimum(format, weight, row, column);
  return weight.input_scale == nullptr ? value : value * weight.input_scale[column];
}

MOE_HOST_DEVICE inline int64_t input_of(const WeightView& weight, int64_t column) {
  return weight.input_order == nullptr ? column : weight.input_order[column];
}

// Whether a weight's codes are its elements, in the order of its inputs.
inline bool elements_are_codes(const WeightView& weight) {
  return weight.format->plain() && weight.scalar == 1.0f && weight.input_scale == nullptr &&
         weight.input_order == nullptr;
}

}  // namespace moe
