// Operators of the tests, added to native/core/operators from outside.
#pragma once

#include "core/operators/fields.h"

namespace moe {

struct TestScale {
  static constexpr const char* kName = "testScale";

  TensorView x;  // [T, H] float
  float factor = 1.0f;
  TensorView y;  // like x

  template <class Fields>
  static constexpr void fields(Fields& f) {
    f.input("x", &TestScale::x);
    f.value("factor", &TestScale::factor);
    f.output("y", &TestScale::y);
  }
};

}  // namespace moe

#define MOE_EXTENSION_OPERATORS(OPERATOR) OPERATOR(TestScale)
