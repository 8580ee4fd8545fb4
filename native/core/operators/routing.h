// From tokens to a routing: which experts each token goes to, with what weights, in what order. What each operator
// means is in lib/core/operators/routing.ts. Shapes and dtypes were checked before a description is made.
#pragma once

#include <cstdint>

#include "core/enum.h"
#include "core/operators/fields.h"
#include "core/tensor_view.h"

namespace moe {

MOE_ENUM(Scoring, softmax, softmax_selected, sigmoid, sqrt_softplus, none, sparsemixer)
// How a token's logits become scores of all experts.
MOE_ENUM(ExpertScoring, softmax, sigmoid)
MOE_ENUM(SelectionKey, score, logit)
MOE_ENUM(GroupScore, max, top2_sum, topk_sum)
MOE_ENUM(Normalization, none, sum, sum_plus_epsilon, clamped_sum, lp)

// How router logits become expert ids and weights.
struct GatingRule {
  int32_t top_k = 1;
  Scoring scoring = Scoring::softmax;
  SelectionKey selection_key = SelectionKey::score;
  int32_t num_groups = 1;
  int32_t top_groups = 1;
  GroupScore group_score = GroupScore::max;
  Normalization normalization = Normalization::none;
  float epsilon = 0.0f;
  float power = 1.0f;
  float scale = 1.0f;
  float jitter = 0.0f;

  // Keys summed for a group's score.
  int32_t group_terms() const {
    return group_score == GroupScore::max ? 1 : group_score == GroupScore::top2_sum ? 2 : top_k / top_groups;
  }

  template <class Fields>
  static constexpr void fields(Fields& f) {
    f.value("topK", &GatingRule::top_k);
    f.value("scoring", &GatingRule::scoring);
    f.value("selectionKey", &GatingRule::selection_key);
    f.value("numGroups", &GatingRule::num_groups);
    f.value("topGroups", &GatingRule::top_groups);
    f.value("groupScore", &GatingRule::group_score);
    f.value("normalization", &GatingRule::normalization);
    f.value("epsilon", &GatingRule::epsilon);
    f.value("power", &GatingRule::power);
    f.value("scale", &GatingRule::scale);
    f.value("jitter", &GatingRule::jitter);
  }
};

struct RouterProjection {
  static constexpr const char* kName = "routerProjection";

  TensorView x;       // [T, H] float
  TensorView weight;  // [E, H] float
  TensorView bias;    // [E] float, or absent
  TensorView logits;  // [T, E] f32

  template <class Fields>
  static constexpr void fields(Fields& f) {
    f.input("x", &RouterProjection::x);
    f.input("weight", &RouterProjection::weight);
    f.optional_input("bias", &RouterProjection::bias);
    f.output("logits", &RouterProjection::logits);
  }
};

struct Gating {
  static constexpr const char* kName = "gating";

  TensorView logits;          // [T, E] float
  TensorView selection_bias;  // [E] float, or absent
  TensorView ids;             // [T, k] i32
  TensorView weights;         // [T, k] f32
  GatingRule rule;

  template <class Fields>
  static constexpr void fields(Fields& f) {
    f.input("logits", &Gating::logits);
    f.optional_input("selectionBias", &Gating::selection_bias);
    f.output("ids", &Gating::ids);
    f.output("weights", &Gating::weights);
    f.value("rule", &Gating::rule);
  }
};

// The second gate chooses among the E / G consecutive experts of each group that the first one chose.
struct HierarchicalGating {
  static constexpr const char* kName = "hierarchicalGating";

  TensorView group_logits;  // [T, G] float
  TensorView logits;        // [T, E] float
  TensorView ids;           // [T, k1 * k2] i32
  TensorView weights;       // [T, k1 * k2] f32
  GatingRule groups;        // top_k = k1
  GatingRule experts;       // top_k = k2

  int64_t group_size() const { return logits.shape[1] / group_logits.shape[1]; }

  template <class Fields>
  static constexpr void fields(Fields& f) {
    f.input("groupLogits", &HierarchicalGating::group_logits);
    f.input("logits", &HierarchicalGating::logits);
    f.output("ids", &HierarchicalGating::ids);
    f.output("weights", &HierarchicalGating::weights);
    f.value("groups", &HierarchicalGating::groups);
    f.value("experts", &HierarchicalGating::experts);
  }
};

struct Sort {
  static constexpr const char* kName = "sort";

  TensorView ids;                // [T, k] i32
  TensorView offsets;            // [E + 1] i32
  TensorView tokens_per_expert;  // [E] i32
  TensorView token_of_row;       // [T * k] i32
  TensorView row_of_slot;        // [T, k] i32

  template <class Fields>
  static constexpr void fields(Fields& f) {
    f.input("ids", &Sort::ids);
    f.output("offsets", &Sort::offsets);
    f.output("tokensPerExpert", &Sort::tokens_per_expert);
    f.output("tokenOfRow", &Sort::token_of_row);
    f.output("rowOfSlot", &Sort::row_of_slot);
  }
};

}  // namespace moe
