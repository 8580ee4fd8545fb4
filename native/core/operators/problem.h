// Problem descriptions: what is asked of an operator. Plain data, the same for every device; see lib/core/backend.ts
// for what each operator means. Shapes and dtypes were checked before a description is made.
#pragma once

#include <cstdint>

#include "core/formats/weight_format.h"
#include "core/tensor_view.h"

namespace moe {

enum class Activation : uint8_t { none, relu, relu2, gelu, gelu_tanh, silu, swiglu, geglu, geglu_tanh, swiglu_clamped };
inline constexpr const char* kActivationNames[] = {"none", "relu",   "relu2", "gelu",       "gelu_tanh",
                                                   "silu", "swiglu", "geglu", "geglu_tanh", "swiglu_clamped"};
constexpr int kActivationCount = 10;

// Whether the product has a gate half and an up half.
constexpr bool is_gated(Activation activation) { return activation >= Activation::swiglu; }

// The numbers of swiglu_clamped.
struct Clamp {
  float alpha = 1.702f;
  float limit = 7.0f;
  float offset = 1.0f;
};

enum class Scoring : uint8_t { softmax, softmax_selected, sigmoid, sqrt_softplus, none, sparsemixer };
inline constexpr const char* kScoringNames[] = {"softmax", "softmax_selected", "sigmoid", "sqrt_softplus",
                                                "none",    "sparsemixer"};
constexpr int kScoringCount = 6;

enum class SelectionKey : uint8_t { score, logit };
inline constexpr const char* kSelectionKeyNames[] = {"score", "logit"};

enum class GroupScore : uint8_t { max, top2_sum, topk_sum };
inline constexpr const char* kGroupScoreNames[] = {"max", "top2_sum", "topk_sum"};

enum class Normalization : uint8_t { none, sum, sum_plus_epsilon, clamped_sum, lp };
inline constexpr const char* kNormalizationNames[] = {"none", "sum", "sum_plus_epsilon", "clamped_sum", "lp"};

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
};

struct RouterProjection {
  TensorView x;       // [T, H] float
  TensorView weight;  // [E, H] float
  TensorView bias;    // [E] float, or absent
  TensorView logits;  // [T, E] f32
};

struct Gating {
  TensorView logits;          // [T, E] float
  TensorView selection_bias;  // [E] float, or absent
  TensorView ids;             // [T, k] i32
  TensorView weights;         // [T, k] f32
  GatingRule rule;
};

// The second gate chooses among the E / G neighbouring experts of every group that the first chose.
struct HierarchicalGating {
  TensorView group_logits;  // [T, G] float
  TensorView logits;        // [T, E] float
  TensorView ids;           // [T, k1 * k2] i32
  TensorView weights;       // [T, k1 * k2] f32
  GatingRule groups;        // top_k = k1
  GatingRule experts;       // top_k = k2

  int64_t group_size() const { return logits.shape[1] / group_logits.shape[1]; }
};

struct Sort {
  TensorView ids;                // [T, k] i32
  TensorView offsets;            // [E + 1] i32
  TensorView tokens_per_expert;  // [E] i32
  TensorView token_of_row;       // [T * k] i32
  TensorView row_of_slot;        // [T, k] i32
};

struct Permute {
  TensorView x;             // [T, H] float
  TensorView token_of_row;  // [R] i32
  TensorView rows;          // [R, H] like x
};

struct Unpermute {
  TensorView rows;         // [R, H] float
  TensorView row_of_slot;  // [T, k] i32
  TensorView slots;        // [T, k, H] like rows
};

struct Combine {
  TensorView rows;         // [R, H] float
  TensorView row_of_slot;  // [T, k] i32
  TensorView weights;      // [T, k] f32
  TensorView y;            // [T, H] float
};

struct CopyMatrix {
  MatrixView source;  // [rows, columns] float
  TensorView target;  // likewise
};

// One product of all experts, y = activation(W x), W [experts, rows, columns] being stored in `format`. rows counts
// gate and up where the activation is gated.
struct ExpertProduct {
  int64_t experts = 0;
  int64_t rows = 0;
  int64_t columns = 0;
  const WeightFormat* format = &kF32Format;
  Activation activation = Activation::none;
  Clamp clamp = {};

  int64_t outputs() const { return is_gated(activation) ? rows / 2 : rows; }
};

class PackedExperts;

struct GroupedGemm {
  TensorView x;                           // [R or T, K] float
  const PackedExperts* weight = nullptr;  // experts, rows = N, columns = K, activation
  TensorView bias;                        // [E, N] float, or absent
  TensorView offsets;                     // [E + 1] i32
  TensorView token_of_row;                // [R] i32, or absent
  TensorView y;                           // [R, outputs] float
};

}  // namespace moe
