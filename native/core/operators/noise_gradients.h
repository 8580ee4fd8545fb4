// Gradients of the operators in noise.h; see lib/core/operators/noise.ts.
#pragma once

#include <cmath>
#include <cstdint>

#include "core/operators/noise.h"

namespace moe {

struct NoisyLogitsBackward {
  static constexpr const char* kName = "noisyLogitsBackward";

  TensorView spread;
  TensorView noise;
  TensorView d_logits;
  TensorView d_deviation;
  TensorView d_spread;

  template <class Fields>
  static constexpr void fields(Fields& f) {
    f.input("spread", &NoisyLogitsBackward::spread, "[T, E] f32");
    f.input("noise", &NoisyLogitsBackward::noise, "[T, E] f32");
    f.input("dLogits", &NoisyLogitsBackward::d_logits, "[T, E] f32");
    f.optional_input("dDeviation", &NoisyLogitsBackward::d_deviation, "[T, E] f32");
    f.output("dSpread", &NoisyLogitsBackward::d_spread, "[T, E] f32");
  }
};

struct ExpertLoadBackward {
  static constexpr const char* kName = "expertLoadBackward";

  TensorView clean;
  TensorView noisy;
  TensorView deviation;
  TensorView token_mask;
  int32_t top_k = 1;
  TensorView group_ids;
  TensorView group_load;
  TensorView d_load;
  TensorView d_clean;
  TensorView d_noisy;
  TensorView d_deviation;

  int64_t groups() const { return load_groups(*this); }

  template <class Fields>
  static constexpr void fields(Fields& f) {
    f.input("clean", &ExpertLoadBackward::clean, "[T, E] f32");
    f.input("noisy", &ExpertLoadBackward::noisy, "[T, E] f32");
    f.input("deviation", &ExpertLoadBackward::deviation, "[T, E] f32");
    f.optional_input("tokenMask", &ExpertLoadBackward::token_mask, "[T] u8");
    f.value("topK", &ExpertLoadBackward::top_k);
    f.optional_input("groupIds", &ExpertLoadBackward::group_ids, "[T, k] i32");
    f.optional_input("groupLoad", &ExpertLoadBackward::group_load, "[G] f32");
    f.input("dLoad", &ExpertLoadBackward::d_load, "[E] f32");
    f.output("dClean", &ExpertLoadBackward::d_clean, "[T, E] f32");
    f.output("dNoisy", &ExpertLoadBackward::d_noisy, "[T, E] f32");
    f.output("dDeviation", &ExpertLoadBackward::d_deviation, "[T, E] f32");
  }

  Status check() const {
    return check_load(*this,
                      "expertLoadBackward: expected groups that divide the experts, and topK of those of a group");
  }
};

// The derivatives of the normal distribution function at (clean - threshold) / deviation, times `gradient`: by the
// clean logit (by the threshold it is the negative) and by the deviation; 0 where the probability does not depend on
// them.
struct LoadSlope {
  float by_clean;
  float by_deviation;
};

MOE_HOST_DEVICE inline LoadSlope load_slope(float clean, float threshold, float deviation, float gradient) {
  const float z = (clean - threshold) / deviation;
  if (!(fabsf(z) < INFINITY)) return {0.0f, 0.0f};
  const float density = 0.39894228040143268f * expf(-0.5f * z * z);
  const float by_clean = gradient * density / deviation;
  return {by_clean, -by_clean * z};
}

}  // namespace moe
