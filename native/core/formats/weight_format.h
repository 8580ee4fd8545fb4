// Weight formats: how a matrix's elements are stored. Data only; each device's kernel table says what it can do with a
// format. A format of the package exists once (see find_format.h), so equal formats have equal addresses.
#pragma once

#include <cstdint>

#include "core/dtype.h"
#include "core/enum.h"

namespace moe {

// What the bits of one code mean before any scale.
MOE_ENUM(CodeType, f32, f16, bf16, e4m3, signed_integer, unsigned_integer, table)

// The storage of scales. e8m0 is a power of two, its exponent biased by 127; u4, u6 and i8 are integers, a byte each.
MOE_ENUM(ScaleType, f32, f16, bf16, e4m3, e8m0, u4, u6, i8)

// Bytes of one scale.
MOE_HOST_DEVICE constexpr int scale_bytes(ScaleType type) {
  return type == ScaleType::f32 ? 4 : type == ScaleType::f16 || type == ScaleType::bf16 ? 2 : 1;
}

// One level of scales (or offsets): one value for each group of `rows` x `columns` elements. The last groups of rows
// and columns may be smaller. columns == 0: a group spans all columns; rows == 0: there is no such level.
struct ScaleLevel {
  ScaleType type = ScaleType::f32;
  int32_t rows = 0;
  int32_t columns = 0;

  MOE_HOST_DEVICE constexpr bool absent() const { return rows == 0; }
};

// What is subtracted from a code, group by group like its scales: nothing; before scaling, an integer as wide as the
// codes; or after scaling, a minimum with two levels of its own (as in the k-quants).
MOE_ENUM(Offset, none, zero_point, minimum)

// value = (code - zero point) * scale * super scale * the matrix's scalar - minimum * super minimum,
// then times the input scale of its column.
struct WeightFormat {
  const char* name = nullptr;
  CodeType code = CodeType::f32;
  int bits = 32;         // per code; below 8, the code of the lower column is in a byte's lower bits
  float table[16] = {};  // the values of 2^bits codes, for CodeType::table
  ScaleLevel scales = {};
  ScaleLevel super_scales = {};  // the scales' own scales
  Offset offset = Offset::none;

  // Whether elements are stored as floats, so that codes are the values.
  MOE_HOST_DEVICE constexpr bool plain() const { return code <= CodeType::bf16; }
  // Bytes of one row of codes.
  MOE_HOST_DEVICE constexpr int64_t row_bytes(int64_t columns) const { return (columns * bits + 7) / 8; }
};

inline constexpr WeightFormat kF32Format{.name = "f32", .code = CodeType::f32, .bits = 32};
inline constexpr WeightFormat kF16Format{.name = "f16", .code = CodeType::f16, .bits = 16};
inline constexpr WeightFormat kBF16Format{.name = "bf16", .code = CodeType::bf16, .bits = 16};

// The plain format of a float dtype.
constexpr const WeightFormat& plain_format(DType dtype) {
  return dtype == DType::f16 ? kF16Format : dtype == DType::bf16 ? kBF16Format : kF32Format;
}

// The dtype of a plain format's codes.
constexpr DType plain_dtype(const WeightFormat& format) {
  return format.code == CodeType::f16 ? DType::f16 : format.code == CodeType::bf16 ? DType::bf16 : DType::f32;
}

}  // namespace moe
