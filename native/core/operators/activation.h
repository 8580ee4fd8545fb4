// The activation between an expert's two products as an operator of its own, and its gradient; see
// lib/core/operators/experts.ts. Gated: pre holds I gate values, then I up values.
#pragma once

#include <cstdint>

#include "core/operators/experts.h"

namespace moe {

// Whether rows of `columns` values before an activation become rows of `outputs`.
constexpr bool activation_fits(Activation activation, int64_t columns, int64_t outputs) {
  return is_gated(activation) ? columns % 2 == 0 && columns / 2 == outputs : columns == outputs;
}

struct Activate {
  static constexpr const char* kName = "activate";

  TensorView pre;
  TensorView multiplier;
  TensorView inner;
  Activation activation = Activation::none;
  Clamp clamp;

  template <class Fields>
  static constexpr void fields(Fields& f) {
    f.input("pre", &Activate::pre, "[R, P] float");
    f.optional_input("multiplier", &Activate::multiplier, "[R, I] float");
    f.output("inner", &Activate::inner, "[R, I] float");
    f.value("activation", &Activate::activation);
    f.value("clamp", &Activate::clamp);
  }

  Status check() const {
    return expect_sizes(activation_fits(activation, pre.shape[1], inner.shape[1]),
                        "activate: expected as many values as the activation has inputs");
  }
};

struct ActivationBackward {
  static constexpr const char* kName = "activationBackward";

  TensorView pre;
  TensorView multiplier;
  TensorView d_inner;
  TensorView d_pre;
  TensorView d_multiplier;
  TensorView inner;
  Activation activation = Activation::none;
  Clamp clamp;

  template <class Fields>
  static constexpr void fields(Fields& f) {
    f.input("pre", &ActivationBackward::pre, "[R, P] float");
    f.optional_input("multiplier", &ActivationBackward::multiplier, "[R, I] float");
    f.input("dInner", &ActivationBackward::d_inner, "[R, I] float");
    f.output("dPre", &ActivationBackward::d_pre, "[R, P] float");
    f.optional_output("dMultiplier", &ActivationBackward::d_multiplier, "[R, I] float");
    f.optional_output("inner", &ActivationBackward::inner, "[R, I] float");
    f.value("activation", &ActivationBackward::activation);
    f.value("clamp", &ActivationBackward::clamp);
  }

  Status check() const {
    return expect_sizes(activation_fits(activation, pre.shape[1], d_inner.shape[1]),
                        "activationBackward: expected as many values as the activation has inputs");
  }
};

}  // namespace moe
