// Problem descriptions: what is asked of an operator. Plain data, the same for every device; see lib/backend.ts for
// what each operator means. Shapes and dtypes were checked before a description is made.
#pragma once

#include <cstdint>

#include "core/tensor_view.h"

namespace moe {

enum class Activation : uint8_t { none, relu, gelu, gelu_tanh, silu, swiglu, geglu, geglu_tanh };
inline constexpr const char* kActivationNames[] = {"none", "relu",   "gelu",  "gelu_tanh",
                                                   "silu", "swiglu", "geglu", "geglu_tanh"};
constexpr int kActivationCount = 8;

// Whether the product has a gate half and an up half.
constexpr bool is_gated(Activation activation) { return activation >= Activation::swiglu; }

enum class Scoring : uint8_t { softmax, softmax_selected };
inline constexpr const char* kScoringNames[] = {"softmax", "softmax_selected"};
constexpr int kScoringCount = 2;

// How router logits become expert ids and weights.
struct GatingRule {
  int32_t top_k = 1;
  Scoring scoring = Scoring::softmax;
  bool normalize = false;
  float scale = 1.0f;
};

struct RouterProjection {
  TensorView x;       // [T, H] float
  TensorView weight;  // [E, H] float
  TensorView bias;    // [E] float, or absent
  TensorView logits;  // [T, E] f32
};

struct Gating {
  TensorView logits;   // [T, E] float
  TensorView ids;      // [T, k] i32
  TensorView weights;  // [T, k] f32
  GatingRule rule;
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

// Expert weights [experts, rows, columns]: y = W x. rows counts gate and up where the activation is gated.
struct ExpertWeights {
  int64_t experts = 0;
  int64_t rows = 0;
  int64_t columns = 0;
  DType dtype = DType::f32;
  Activation activation = Activation::none;

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

struct LayerDescription {
  int64_t hidden = 0;
  int64_t intermediate = 0;
  int64_t experts = 0;
  Activation activation = Activation::swiglu;
  GatingRule gating;
  DType weight_dtype = DType::f32;

  int64_t gate_up_rows() const { return (is_gated(activation) ? 2 : 1) * intermediate; }
};

// One expert's weights; absent views where the layer has no gate or no biases.
struct ExpertViews {
  TensorView gate, up;  // [I, H]
  TensorView down;      // [H, I]
  TensorView gate_bias, up_bias, down_bias;
};

struct LayerForward {
  TensorView x;        // [T, H] float
  TensorView y;        // [T, H] like x
  TensorView ids;      // [T, k] i32 and
  TensorView weights;  // [T, k] f32 where the caller routes, or absent
};

// Seconds on the device that the stages of one forward took.
struct StageTimes {
  double router = 0, gating = 0, sort = 0, gate_up = 0, down = 0, combine = 0;
};

}  // namespace moe
