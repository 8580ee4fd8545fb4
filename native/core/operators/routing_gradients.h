// Gradients of the operators in routing.h; see lib/core/operators/routing.ts.
#pragma once

#include <cstdint>

#include "core/operators/routing.h"

namespace moe {

struct RouterProjectionBackward {
  static constexpr const char* kName = "routerProjectionBackward";

  TensorView x;
  TensorView weight;
  TensorView d_logits;
  TensorView d_x;
  TensorView d_weight;

  template <class Fields>
  static constexpr void fields(Fields& f) {
    f.input("x", &RouterProjectionBackward::x, "[T, H] float");
    f.input("weight", &RouterProjectionBackward::weight, "[E, H] float");
    f.input("dLogits", &RouterProjectionBackward::d_logits, "[T, E] f32");
    f.output("dx", &RouterProjectionBackward::d_x, "[T, H] float");
    f.output("dWeight", &RouterProjectionBackward::d_weight, "[E, H] f32");
  }

  Status check() const {
    return expect_sizes(x.shape[0] <= INT32_MAX, "routerProjectionBackward: expected fewer than 2^31 tokens");
  }
};

// Tokens whose products are summed before they are added to the gradient of a router's weight.
constexpr int kGradientBlock = 64;

struct GatingBackward {
  static constexpr const char* kName = "gatingBackward";

  TensorView logits;
  TensorView ids;
  TensorView d_weights;
  TensorView d_logits;
  GatingRule rule;

  template <class Fields>
  static constexpr void fields(Fields& f) {
    f.input("logits", &GatingBackward::logits, "[T, E] float");
    f.input("ids", &GatingBackward::ids, "[T, k] i32");
    f.input("dWeights", &GatingBackward::d_weights, "[T, k] f32");
    f.output("dLogits", &GatingBackward::d_logits, "[T, E] f32");
    f.value("rule", &GatingBackward::rule);
  }

  Status check() const {
    return expect_sizes(ids.shape[1] == rule.top_k && rule.fits(logits.shape[1]) && ids.size() <= INT32_MAX,
                        "gatingBackward: expected a rule that fits the logits, and fewer than 2^31 choices");
  }
};

}  // namespace moe
