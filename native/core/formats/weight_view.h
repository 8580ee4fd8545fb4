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

}  // namespace moe
