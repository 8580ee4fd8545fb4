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

// With offsets, the rows of their last experts, the shared ones, have a clamp of their own.
inline Status check_shared_experts(const TensorView& offsets, int64_t shared_experts) {
  return expect_sizes(shared_experts >= 0 && (offsets.absent() || shared_experts < offsets.shape[0]),
                      "activation: expected as many offsets as there are shared experts");
}
// Where the first shared expert's first row is kept; null: there are none.
inline const int32_t* first_shared_row(const TensorView& offsets, int64_t shared_experts) {
  return offsets.absent() ? nullptr : offsets.as<int32_t>() + (offsets.shape[0] - 1 - shared_experts);
}

struct Activate {
  static constexpr const char* kName = "activate";

  TensorView pre;
  TensorView multiplier;
  TensorView offsets;
  TensorView inner;
  Activation activation = Activation::none;
  Clamp clamp;
  Clamp shared_clamp;
  int64_t shared_experts = 0;

  template <class Fields>
  static constexpr void fields(Fields& f) {
    f.input("pre", &Activate::pre, "[R, P] float");
    f.optional_input("multiplier", &Activate::multiplier, "[R, I] float");
    f.optional_input("offsets", &Activate::offsets, "[E+1] i32");
    f.output("inner", &Activate::inner, "[R, I] float");
    f.value("activation", &Activate::activation);
    f.value("clamp", &Activate::clamp);
    f.value("sharedClamp", &Activate::shared_clamp);
    f.value("sharedExperts", &Activate::shared_experts);
  }

  Status check() const {
    MOE_TRY(check_shared_experts(offsets, shared_experts));
    return expect_sizes(activation_fits(activation, pre.shape[1], inner.shape[1]),
                        "activate: expected as many values as the activation has inputs");
  }
};

struct ActivationBackward {
  static constexpr const char* kName = "activationBackward";

  TensorView pre;
  TensorView multiplier;
  TensorView offsets;
  TensorView d_inner;
  TensorView d_pre;
  TensorView d_multiplier;
  TensorView inner;
  Activation activation = Activation::none;
  Clamp clamp;
  Clamp shared_clamp;
  int64_t shared_experts = 0;

  template <class Fields>
  static constexpr void fields(Fields& f) {
    f.input("pre", &ActivationBackward::pre, "[R, P] float");
    f.optional_input("multiplier", &ActivationBackward::multiplier, "[R, I] float");
    f.optional_input("offsets", &ActivationBackward::offsets, "[E+1] i32");
    f.input("dInner", &ActivationBackward::d_inner, "[R, I] float");
    f.output("dPre", &ActivationBackward::d_pre, "[R, P] float");
    f.optional_output("dMultiplier", &ActivationBackward::d_multiplier, "[R, I] float");
    f.optional_output("inner", &ActivationBackward::inner, "[R, I] float");
    f.value("activation", &ActivationBackward::activation);
    f.value("clamp", &ActivationBackward::clamp);
    f.value("sharedClamp", &ActivationBackward::shared_clamp);
    f.value("sharedExperts", &ActivationBackward::shared_experts);
  }

  Status check() const {
    MOE_TRY(check_shared_experts(offsets, shared_experts));
    return expect_sizes(activation_fits(activation, pre.shape[1], d_inner.shape[1]),
                        "activationBackward: expected as many values as the activation has inputs");
  }
};

}  // namespace moe
