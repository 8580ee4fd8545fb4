// RMSNorm and its gradient; see lib/core/operators/experts.ts.
#pragma once

#include "core/operators/fields.h"
#include "core/tensor_view.h"

namespace moe {

struct RmsNorm {
  static constexpr const char* kName = "rmsNorm";

  TensorView x;
  TensorView weight;
  TensorView y;
  float epsilon = 0.0f;
  float offset = 0.0f;

  template <class Fields>
  static constexpr void fields(Fields& f) {
    f.input("x", &RmsNorm::x, "[T, H] float");
    f.input("weight", &RmsNorm::weight, "[H] float");
    f.output("y", &RmsNorm::y, "[T, H] float");
    f.value("epsilon", &RmsNorm::epsilon);
    f.value("offset", &RmsNorm::offset);
  }
};

struct RmsNormBackward {
  static constexpr const char* kName = "rmsNormBackward";

  TensorView x;
  TensorView weight;
  TensorView dy;
  TensorView residual;
  TensorView dx;
  TensorView terms;
  float epsilon = 0.0f;
  float offset = 0.0f;

  template <class Fields>
  static constexpr void fields(Fields& f) {
    f.input("x", &RmsNormBackward::x, "[T, H] float");
    f.input("weight", &RmsNormBackward::weight, "[H] float");
    f.input("dy", &RmsNormBackward::dy, "[T, H] float");
    f.optional_input("residual", &RmsNormBackward::residual, "[T, H] float");
    f.optional_output("dx", &RmsNormBackward::dx, "[T, H] float");
    f.optional_output("terms", &RmsNormBackward::terms, "[T, H] f32");
    f.value("epsilon", &RmsNormBackward::epsilon);
    f.value("offset", &RmsNormBackward::offset);
  }
};

}  // namespace moe
