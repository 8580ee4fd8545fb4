// Operators of the tests, added to native/core/operators from outside.
#pragma once

#include "core/operators/fields.h"

namespace moe {

struct TestScale {
  static constexpr const char* kName = "testScale";

  TensorView x;
  float factor = 1.0f;
  TensorView y;

  template <class Fields>
  static constexpr void fields(Fields& f) {
    f.input("x", &TestScale::x, "[T, H] D");
    f.value("factor", &TestScale::factor);
    f.output("y", &TestScale::y, "[T, H] D");
  }
};

}  // namespace moe

#define MOE_EXTENSION_OPERATORS(OPERATOR) OPERATOR(TestScale)
