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

  // Whether the rule can choose from this many experts, whose numbers are int32.
  bool fits(int64_t experts) const {
    if (top_k < 1 || top_k > experts || experts >= INT32_MAX || num_groups < 1 || experts % num_groups != 0)
      return false;
    const int64_t group_size = experts / num_groups;
    return top_groups >= 1 && top_groups <= num_groups && top_k <= top_groups * group_size &&
           group_terms() <= group_size;
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

  TensorView x;
  TensorView weight;
  TensorView bias;
  TensorView logits;

  template <class Fields>
  static constexpr void fields(Fields& f) {
    f.input("x", &RouterProjection::x, "[T, H] float");
    f.input("weight", &RouterProjection::weight, "[E, H] float");
    f.optional_input("bias", &RouterProjection::bias, "[E] float");
    f.output("logits", &RouterProjection::logits, "[T, E] f32");
  }

  Status check() const {
    return expect_sizes(x.shape[0] <= INT32_MAX, "routerProjection: expected fewer than 2^31 tokens");
  }
};

struct Gating {
  static constexpr const char* kName = "gating";

  TensorView logits;
  TensorView selection_bias;
  TensorView ids;
  TensorView weights;
  GatingRule rule;

  template <class Fields>
  static constexpr void fields(Fields& f) {
    f.input("logits", &Gating::logits, "[T, E] float");
    f.optional_input("selectionBias", &Gating::selection_bias, "[E] float");
    f.output("ids", &Gating::ids, "[T, k] i32");
    f.output("weights", &Gating::weights, "[T, k] f32");
    f.value("rule", &Gating::rule);
  }

  Status check() const {
    return expect_sizes(ids.shape[1] == rule.top_k && rule.fits(logits.shape[1]),
                        "gating: expected a rule that fits the logits");
  }
};

// The weights of a choice that is given.
struct GatingWeights {
  static constexpr const char* kName = "gatingWeights";

  TensorView logits;
  TensorView ids;
  TensorView weights;
  GatingRule rule;

  template <class Fields>
  static constexpr void fields(Fields& f) {
    f.input("logits", &GatingWeights::logits, "[T, E] float");
    f.input("ids", &GatingWeights::ids, "[T, k] i32");
    f.output("weights", &GatingWeights::weights, "[T, k] f32");
    f.value("rule", &GatingWeights::rule);
  }

  Status check() const {
    return expect_sizes(ids.shape[1] == rule.top_k && rule.fits(logits.shape[1]) && ids.size() <= INT32_MAX,
                        "gatingWeights: expected a rule that fits the logits, and fewer than 2^31 choices");
  }
};

// The rows of a table of experts [V, k], one for each id of the vocabulary, that token ids name.
struct LookUpExperts {
  static constexpr const char* kName = "lookUpExperts";

  TensorView table;
  TensorView token_ids;
  TensorView ids;

  template <class Fields>
  static constexpr void fields(Fields& f) {
    f.input("table", &LookUpExperts::table, "[V, k] i32");
    f.input("tokenIds", &LookUpExperts::token_ids, "[T] i32");
    f.output("ids", &LookUpExperts::ids, "[T, k] i32");
  }
};

// The second gate chooses among the E / G consecutive experts of each group that the first one chose.
struct HierarchicalGating {
  static constexpr const char* kName = "hierarchicalGating";

  TensorView group_logits;
  TensorView logits;
  TensorView ids;
  TensorView weights;
  GatingRule groups;   // top_k = k1
  GatingRule experts;  // top_k = k2

  int64_t group_size() const { return logits.shape[1] / group_logits.shape[1]; }

  template <class Fields>
  static constexpr void fields(Fields& f) {
    f.input("groupLogits", &HierarchicalGating::group_logits, "[T, G] float");
    f.input("logits", &HierarchicalGating::logits, "[T, E] float");
    f.output("ids", &HierarchicalGating::ids, "[T, k] i32");
    f.output("weights", &HierarchicalGating::weights, "[T, k] f32");
    f.value("groups", &HierarchicalGating::groups);
    f.value("experts", &HierarchicalGating::experts);
  }

  Status check() const {
    const int64_t count = group_logits.shape[1];
    return expect_sizes(count >= 1 && logits.shape[1] % count == 0 && logits.shape[1] < INT32_MAX &&
                            groups.fits(count) && experts.fits(group_size()) &&
                            ids.shape[1] == int64_t{groups.top_k} * experts.top_k,
                        "hierarchicalGating: expected rules that fit the logits");
  }
};

struct Sort {
  static constexpr const char* kName = "sort";

  TensorView ids;
  TensorView offsets;
  TensorView tokens_per_expert;
  TensorView token_of_row;
  TensorView row_of_slot;

  template <class Fields>
  static constexpr void fields(Fields& f) {
    f.input("ids", &Sort::ids, "[T, k] i32");
    f.output("offsets", &Sort::offsets, "[E+1] i32");
    f.output("tokensPerExpert", &Sort::tokens_per_expert, "[E] i32");
    f.output("tokenOfRow", &Sort::token_of_row, "[T*k] i32");
    f.output("rowOfSlot", &Sort::row_of_slot, "[T, k] i32");
  }

  // Without choices T may be any number, with no memory behind it.
  int64_t tokens() const { return ids.shape[1] == 0 ? 0 : ids.shape[0]; }

  Status check() const { return expect_sizes(ids.size() <= INT32_MAX, "sort: expected fewer than 2^31 choices"); }
};

}  // namespace moe
