// The tensors that make up a quantised matrix, one by one.
#pragma once

#include "core/formats/weight_format.h"

namespace moe {

// QuantizedField in lib/core/layer/weight_role.ts is the same list.
MOE_ENUM(QuantizedField, codes, scales, superScales, zeros, superZeros, inputScale, inputOrder)

// The level of scales or offsets that a field holds; absent for the other fields, and if the format has no such level.
constexpr ScaleLevel level_of(const WeightFormat& format, QuantizedField field) {
  switch (field) {
    case QuantizedField::scales: return format.scales;
    case QuantizedField::superScales: return format.super_scales;
    case QuantizedField::zeros: return format.zeros();
    case QuantizedField::superZeros: return format.super_zeros();
    default: return {};
  }
}

// The elements of a field. No rows if a format does not have it.
struct FieldSize {
  DType dtype = DType::u8;
  int64_t rows = 0, columns = 0;
};

// Of a matrix [rows, columns].
constexpr FieldSize size_of_field(const WeightFormat& format, QuantizedField field, int64_t rows, int64_t columns) {
  if (format.plain()) return {};
  switch (field) {
    case QuantizedField::codes: return {DType::u8, rows, format.row_bytes(columns)};
    case QuantizedField::inputScale: return {DType::f32, 1, columns};
    case QuantizedField::inputOrder: return {DType::i32, 1, columns};
    default: break;
  }
  const ScaleLevel level = level_of(format, field);
  if (level.absent()) return {};
  const DType dtype = level.type == ScaleType::f32    ? DType::f32
                      : level.type == ScaleType::f16  ? DType::f16
                      : level.type == ScaleType::bf16 ? DType::bf16
                                                      : DType::u8;
  return {dtype, level.row_groups(rows), level.column_groups(columns)};
}

}  // namespace moe
