// A weight matrix in some device's memory, in any format.
#pragma once

#include "core/formats/weight_format.h"
#include "core/tensor_view.h"

namespace moe {

struct WeightView {
  const WeightFormat* format = nullptr;  // null: absent
  int64_t rows = 0, columns = 0;
  // Plain: [rows, columns] with any strides. Others: bytes [rows, format->row_bytes(columns)].
  MatrixView codes = {};
  // [row groups, column groups] each, if the format has them.
  MatrixView scales = {}, super_scales = {}, zeros = {}, super_zeros = {};
  float scalar = 1.0f;
  const float* input_scale = nullptr;    // [columns]; null: 1 each
  const int32_t* input_order = nullptr;  // [columns], the input that each stored column multiplies; null: its own

  bool absent() const { return format == nullptr; }
  // Whether it is no larger than this.
  bool within(int64_t most_rows, int64_t most_columns) const { return rows <= most_rows && columns <= most_columns; }
};

// A plain matrix.
inline WeightView plain_weight(const MatrixView& matrix) {
  if (matrix.absent()) return {};
  return {.format = &plain_format(matrix.dtype), .rows = matrix.rows, .columns = matrix.columns, .codes = matrix};
}

// Whether the codes fill a weight, and every level of its format has one value for each group. A row's
// codes and values lie side by side, unless the format is plain.
inline bool fits_weight(const WeightView& weight) {
  const WeightFormat& format = *weight.format;
  const auto groups = [&weight](const ScaleLevel& level, const MatrixView& matrix) {
    if (level.absent()) return matrix.absent();
    return !matrix.absent() && info(matrix.dtype).bytes == static_cast<size_t>(scale_bytes(level.type)) &&
           matrix.rows == level.row_groups(weight.rows) && matrix.columns == level.column_groups(weight.columns) &&
           matrix.column_stride == 1;
  };
  return weight.codes.rows == weight.rows &&
         weight.codes.columns == (format.plain() ? weight.columns : format.row_bytes(weight.columns)) &&
         weight.codes.dtype == (format.plain() ? plain_dtype(format) : DType::u8) &&
         (format.plain() || weight.codes.column_stride == 1) && groups(format.scales, weight.scales) &&
         groups(format.super_scales, weight.super_scales) && groups(format.zeros(), weight.zeros) &&
         groups(format.super_zeros(), weight.super_zeros);
}

}  // namespace moe
