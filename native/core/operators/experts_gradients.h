// Gradients of the operators in experts.h; see lib/core/operators/experts.ts.
#pragma once

#include <cstdint>

#include "core/operators/experts.h"

namespace moe {

struct CombineBackward {
  static constexpr const char* kName = "combineBackward";

  TensorView rows;
  TensorView row_of_slot;
  TensorView weights;
  TensorView d_y;
  TensorView d_rows;
  TensorView d_weights;

  template <class Fields>
  static constexpr void fields(Fields& f) {
    f.optional_input("rows", &CombineBackward::rows, "[R, H] float");
    f.input("rowOfSlot", &CombineBackward::row_of_slot, "[T, k] i32");
    f.input("weights", &CombineBackward::weights, "[T, k] f32");
    f.input("dy", &CombineBackward::d_y, "[T, H] float");
    f.optional_output("dRows", &CombineBackward::d_rows, "[R, H] float");
    f.optional_output("dWeights", &CombineBackward::d_weights, "[T, k] f32");
  }

  bool wants_rows() const { return !d_rows.absent() && d_rows.size() > 0; }
  int64_t row_count() const { return (d_rows.absent() ? rows : d_rows).shape[0]; }
  // Without choices T may be any number, with no memory behind it.
  int64_t tokens() const { return row_of_slot.shape[1] == 0 ? 0 : row_of_slot.shape[0]; }

  Status check() const {
    return expect_sizes((d_weights.absent() || !rows.absent()) && row_of_slot.size() <= INT32_MAX,
                        "combineBackward: expected rows for dWeights, and fewer than 2^31 slots");
  }
};

struct GroupedGemmWeightBackward {
  static constexpr const char* kName = "groupedGemmWeightBackward";

  TensorView x;
  TensorView token_of_row;
  TensorView dy;
  TensorView offsets;
  bool accumulate = false;
  TensorView d_weight;
  TensorView d_bias;

  template <class Fields>
  static constexpr void fields(Fields& f) {
    f.input("x", &GroupedGemmWeightBackward::x, "[M, K] float");
    f.optional_input("tokenOfRow", &GroupedGemmWeightBackward::token_of_row, "[R] i32");
    f.input("dy", &GroupedGemmWeightBackward::dy, "[R, N] float");
    f.input("offsets", &GroupedGemmWeightBackward::offsets, "[E+1] i32");
    f.value("accumulate", &GroupedGemmWeightBackward::accumulate);
    f.output("dWeight", &GroupedGemmWeightBackward::d_weight, "[E, N, K] f32");
    f.optional_output("dBias", &GroupedGemmWeightBackward::d_bias, "[E, N] f32");
  }

  Status check() const {
    const int64_t rows = dy.shape[0];
    return expect_sizes(
        (!token_of_row.absent() || x.shape[0] == rows) && rows <= INT32_MAX && d_weight.shape[0] < INT32_MAX,
        "groupedGemmWeightBackward: expected a row of x for each of fewer than 2^31 rows of dy");
  }
};

// Rows whose gradients are summed before they are added to that of a bias.
constexpr int kBiasGradientRows = 64;

}  // namespace moe
