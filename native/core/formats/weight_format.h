// Weight formats: how a matrix's elements are stored. Data only; each device's kernel table says what it can do with a
// format. A format of the package exists once in the core (see find_format.h), so formats from there are equal where their
// addresses are.
#pragma once

#include <cstdint>
#include <string_view>

#include "core/divide.h"
#include "core/dtype.h"
#include "core/enum.h"

namespace moe {

// What the bits of one code mean before any scale.
MOE_ENUM(CodeType, f32, f16, bf16, e4m3, signed_integer, unsigned_integer, table)

// The storage of scales. e8m0 is a power of two, its exponent biased by 127; u4, u6 and i8 are integers, a byte each;
// odd4 is a byte whose lower four bits n stand for 2 n + 1; dynamic8 is a byte of bitsandbytes' dynamic map (see
// dynamic8_value() in tables.h).
MOE_ENUM(ScaleType, f32, f16, bf16, e4m3, e8m0, u4, u6, i8, odd4, dynamic8)

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
  // How many groups there are in a matrix with this many rows, and with this many columns.
  MOE_HOST_DEVICE constexpr int64_t row_groups(int64_t matrix_rows) const { return ceil_divide(matrix_rows, rows); }
  MOE_HOST_DEVICE constexpr int64_t column_groups(int64_t matrix_columns) const {
    return columns == 0 ? 1 : ceil_divide(matrix_columns, columns);
  }
  // The group that a column is in.
  MOE_HOST_DEVICE constexpr int64_t column_group(int64_t column) const { return columns == 0 ? 0 : column / columns; }
};

// What moves values, beside scales: nothing; an integer as wide as the codes, which is subtracted from a group's codes
// before scaling; a minimum with two levels of its own, which is subtracted after scaling (as in the k-quants); or what
// is added to a row's scales once these are multiplied by their super scales (as in bitsandbytes' nested quantisation).
MOE_ENUM(Offset, none, zero_point, minimum, scale_offset)

// The grids of grids.h.
enum class Grid : uint8_t { none, iq1, iq2_xxs, iq2_xs, iq2_s, iq3_xxs, iq3_s };

// How codes of eight columns are stored together, as a unit: the numbers of the points of a grid that have the columns'
// coordinates, the first in the lowest bits, and above them the signs. A column's code is its coordinate below its
// sign.
struct GridCodes {
  Grid grid = Grid::none;
  int coordinates = 8;  // of a point: 4 or 8
  int number_bits = 0;  // of the number of a point
  int sign_bits = 0;    // 8: one for each column; 1: one for all

  MOE_HOST_DEVICE constexpr bool absent() const { return grid == Grid::none; }
  MOE_HOST_DEVICE constexpr uint32_t points() const { return 1u << number_bits; }
  MOE_HOST_DEVICE constexpr int coordinate_bits() const { return coordinates == 8 ? 2 : 3; }
  // The distance of two coordinates in grid_points().
  MOE_HOST_DEVICE constexpr int spacing() const { return coordinates == 8 ? 2 : 4; }
  // Bits of a unit.
  MOE_HOST_DEVICE constexpr int bits() const { return 8 / coordinates * number_bits + sign_bits; }
};

// value = (code - zero point) * (scale * super scale + scale offset) * the matrix's scalar - minimum * super minimum,
// then times the input scale of its column.
struct WeightFormat {
  const char* name = nullptr;
  CodeType code = CodeType::f32;
  int bits = 32;         // per code; below 8, the code of the lower column is in a byte's lower bits
  float table[16] = {};  // the values of 2^bits codes, for CodeType::table
  GridCodes grid = {};   // what is stored instead of each code
  ScaleLevel scales = {};
  ScaleLevel super_scales = {};  // the scales' own scales
  Offset offset = Offset::none;

  // The level of the zero points, a byte each, or of the minima.
  MOE_HOST_DEVICE constexpr ScaleLevel zeros() const {
    if (offset == Offset::zero_point) return {ScaleType::i8, scales.rows, scales.columns};
    return offset == Offset::minimum ? scales : ScaleLevel{};
  }
  // The level of the minima's scales, or of the scales' offsets: one for a row.
  MOE_HOST_DEVICE constexpr ScaleLevel super_zeros() const {
    if (offset == Offset::scale_offset) return {ScaleType::f32, 1, 0};
    return offset == Offset::minimum ? super_scales : ScaleLevel{};
  }
  // Whether elements are stored as floats, so that codes are the values.
  MOE_HOST_DEVICE constexpr bool plain() const { return code <= CodeType::bf16; }
  // Columns whose codes are stored together, and the bits that they take.
  MOE_HOST_DEVICE constexpr int unit_columns() const { return grid.absent() ? 1 : 8; }
  MOE_HOST_DEVICE constexpr int unit_bits() const { return grid.absent() ? bits : grid.bits(); }
  // Bytes of one row of codes.
  MOE_HOST_DEVICE constexpr int64_t row_bytes(int64_t columns) const {
    return ceil_divide(ceil_divide(columns, unit_columns()) * unit_bits(), 8);
  }
};

// By their names, since the library of a device has constants of its own, at other addresses.
inline bool same_format(const WeightFormat& one, const WeightFormat& other) {
  return std::string_view(one.name) == other.name;
}

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
