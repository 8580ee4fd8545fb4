// Rows of a tensor times packed weights: they are packed, multiplied, and their products stored.
#pragma once

#include "core/tensor_view.h"
#include "cpu/gemm/panels.h"
#include "cpu/runtime/context.h"

namespace moe::cpu {

struct RowProduct {
  TensorView x;
  const CpuPackedExperts* weights;
  TensorView bias;              // [experts, rows] or absent
  const int32_t* offsets;       // [experts + 1], checked
  const int32_t* token_of_row;  // null: row r of the product is row r of x
  DType arithmetic_dtype;       // float32 forces float32 products
  TensorView y;                 // [R, outputs]
};

// Rows whose index is none are left as they are.
Status multiply_rows(Context& context, const RowProduct& p);

}  // namespace moe::cpu
