// Gradients of the operators in routing.h and capacity.h; see lib/core/operators/routing.ts.
#pragma once

#include <cstdint>

#include "core/operators/capacity.h"
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

struct HierarchicalGatingBackward {
  static constexpr const char* kName = "hierarchicalGatingBackward";

  TensorView group_logits;
  TensorView logits;
  TensorView ids;
  TensorView d_weights;
  TensorView d_group_logits;
  TensorView d_logits;
  GatingRule groups;   // top_k = k1
  GatingRule experts;  // top_k = k2

  int64_t group_size() const { return logits.shape[1] / group_logits.shape[1]; }

  template <class Fields>
  static constexpr void fields(Fields& f) {
    f.input("groupLogits", &HierarchicalGatingBackward::group_logits, "[T, G] float");
    f.input("logits", &HierarchicalGatingBackward::logits, "[T, E] float");
    f.input("ids", &HierarchicalGatingBackward::ids, "[T, k] i32");
    f.input("dWeights", &HierarchicalGatingBackward::d_weights, "[T, k] f32");
    f.output("dGroupLogits", &HierarchicalGatingBackward::d_group_logits, "[T, G] f32");
    f.output("dLogits", &HierarchicalGatingBackward::d_logits, "[T, E] f32");
    f.value("groups", &HierarchicalGatingBackward::groups);
    f.value("experts", &HierarchicalGatingBackward::experts);
  }

  Status check() const {
    const int64_t count = group_logits.shape[1];
    return expect_sizes(count >= 1 && logits.shape[1] % count == 0 && logits.shape[1] < INT32_MAX &&
                            groups.fits(count) && experts.fits(group_size()) &&
                            ids.shape[1] == int64_t{groups.top_k} * experts.top_k && ids.size() <= INT32_MAX,
                        "hierarchicalGatingBackward: expected rules that fit the logits");
  }
};

// One token's choices by group: k1 times k2 slots, the same group's beside each other.
template <class Ids>
struct GroupedChoices {
  Ids id_of;  // the expert of a slot, or -1
  int each;   // k2
  int size;   // experts in a group

  // The group of the j-th k2 slots: that of their first expert, or -1.
  MOE_HOST_DEVICE int group(int j) const {
    for (int slot = j * each; slot < (j + 1) * each; ++slot) {
      const int id = id_of(slot);
      if (id >= 0) return id / size;
    }
    return -1;
  }
  // The expert of a slot within `group`, or -1.
  MOE_HOST_DEVICE int expert(int slot, int group) const {
    const int id = id_of(slot);
    return id >= 0 && id / size == group ? id % size : -1;
  }
};

struct LimitCapacityBackward {
  static constexpr const char* kName = "limitCapacityBackward";

  TensorView ids;
  TensorView weights;
  TensorView kept_ids;
  TensorView d_kept_weights;
  TensorView d_weights;
  KeptDivisor divisor = KeptDivisor::none;
  float scale = 1.0f;

  template <class Fields>
  static constexpr void fields(Fields& f) {
    f.input("ids", &LimitCapacityBackward::ids, "[T, k] i32");
    f.input("weights", &LimitCapacityBackward::weights, "[T, k] f32");
    f.input("keptIds", &LimitCapacityBackward::kept_ids, "[T, k] i32");
    f.input("dKeptWeights", &LimitCapacityBackward::d_kept_weights, "[T, k] f32");
    f.output("dWeights", &LimitCapacityBackward::d_weights, "[T, k] f32");
    f.value("divisor", &LimitCapacityBackward::divisor);
    f.value("scale", &LimitCapacityBackward::scale);
  }
};

// One token's k choices of limitCapacityBackward.
struct KeptChoices {
  const int32_t* ids;
  const int32_t* kept_ids;
  const float* weights;
  const float* kept_gradient;
  float* gradient;
  int64_t count;

  MOE_HOST_DEVICE void run(KeptDivisor divisor, float scale) const {
    float sum = 0.0f, moment = 0.0f;
    for (int64_t j = 0; j < count; ++j) {
      if (divided(j, divisor)) sum += weights[j];
      if (kept_ids[j] >= 0) moment += kept_gradient[j] * weights[j];
    }
    // Weights whose sum is 0 stay as they are.
    if (divisor == KeptDivisor::none || sum == 0.0f) {
      for (int64_t j = 0; j < count; ++j) gradient[j] = kept_ids[j] >= 0 ? kept_gradient[j] : 0.0f;
      return;
    }
    for (int64_t j = 0; j < count; ++j) {
      const float kept = kept_ids[j] >= 0 ? kept_gradient[j] : 0.0f;
      gradient[j] = divided(j, divisor) ? (kept - moment / sum) * (scale / sum) : 0.0f;
    }
  }

 private:
  // Whether a weight is part of the divisor.
  MOE_HOST_DEVICE bool divided(int64_t j, KeptDivisor divisor) const {
    return (divisor == KeptDivisor::kept ? kept_ids : ids)[j] >= 0;
  }
};

}  // namespace moe
