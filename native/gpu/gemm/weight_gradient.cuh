// The arguments of the kernels for the gradient of the grouped GEMM's weights, and how their blocks take tiles.
#pragma once

#include "core/dtype.h"
#include "gpu/tile/checked_id.cuh"

#include <ptx/device.cuh>

namespace moe::MOE_GPU_NAMESPACE {

struct WeightGradientArguments {
  const void* x;
  const void* output_gradient;
  DType x_dtype, output_gradient_dtype;
  const int* token_of_row;  // null: row r of the product is row r of x
  int64_t x_rows;
  IdError* token_error;
  const int* first_rows;  // [experts + 1], checked
  int64_t experts, outputs, columns;
  float* weight_gradient;
  float* bias_gradient;
  bool accumulate;
  // Whether the runs that a kernel moves at once are aligned.
  bool aligned_x, aligned_output_gradient, aligned_weight_gradient;
};

// The row of x that row `row` of the product has, or -1.
__device__ __forceinline__ int64_t token_of(const WeightGradientArguments& a, int64_t row) {
  return a.token_of_row == nullptr ? row : checked_id(a.token_of_row[row], a.x_rows, row, a.token_error);
}

// A tile of one expert's gradient, and the expert's rows.
struct WeightGradientRectangle {
  int64_t expert;
  int64_t first_output, first_column;
  int begin, end;

  // Where a value of the tile is in the gradient.
  __device__ int64_t place(const WeightGradientArguments& a, int output, int column) const {
    return (expert * a.outputs + first_output + output) * a.columns + first_column + column;
  }
};

// Calls use(rectangle) for each of this block's tiles of kOutputs outputs by kColumns columns.
template <int kOutputs, int kColumns, class Use>
__device__ __forceinline__ void for_each_rectangle(const WeightGradientArguments& a, Use&& use) {
  const int64_t across = (a.columns + kColumns - 1) / kColumns;
  const int64_t of_expert = (a.outputs + kOutputs - 1) / kOutputs * across;
  for (int64_t tile = blockIdx.x; tile < a.experts * of_expert; tile += gridDim.x) {
    const int64_t expert = tile / of_expert, within = tile % of_expert;
    use(WeightGradientRectangle{.expert = expert,
                                .first_output = within / across * kOutputs,
                                .first_column = within % across * kColumns,
                                .begin = a.first_rows[expert],
                                .end = a.first_rows[expert + 1]});
  }
}

}  // namespace moe::MOE_GPU_NAMESPACE
