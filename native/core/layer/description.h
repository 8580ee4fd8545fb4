// What a layer computes, and the tensors of one pass of tokens through it.
#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>
#include <vector>

#include "core/formats/weight_view.h"
#include "core/layer/stages.h"
#include "core/operators/experts.h"
#include "core/operators/routing.h"

namespace moe {

class ForwardState;

MOE_ENUM(OutputActivation, none, softmax)
MOE_ENUM(WeightPlace, output, input)
MOE_ENUM(SharedGate, none, sigmoid, softmax)

// The formats of experts' matrices, by role.
struct ExpertFormats {
  const WeightFormat* gate = &kF32Format;
  const WeightFormat* up = &kF32Format;
  const WeightFormat* multiplier = &kF32Format;
  const WeightFormat* down = &kF32Format;
};

// The formats in which a device stores a layer's matrices, by role.
struct LayerFormats {
  const WeightFormat* router = &kF32Format;
  const WeightFormat* shared_gate = &kF32Format;
  const WeightFormat* gate = &kF32Format;
  const WeightFormat* up = &kF32Format;
  const WeightFormat* multiplier = &kF32Format;
  const WeightFormat* down = &kF32Format;
  // Those of the shared experts, if they differ.
  std::optional<ExpertFormats> shared;

  ExpertFormats experts() const { return {gate, up, multiplier, down}; }
};

// Experts first .. first + count - 1.
struct ExpertRange {
  int64_t first = 0;
  int64_t count = 0;

  int64_t end() const { return first + count; }
  bool contains(int64_t expert) const { return first <= expert && expert < end(); }
};

// Experts whose matrices have the same formats, so that one product multiplies all of them.
struct ExpertGroup {
  ExpertRange experts;  // among all that the layer holds
  ExpertFormats formats;
};

struct LayerDescription {
  int64_t hidden = 0;
  int64_t intermediate = 0;
  int64_t experts = 0;         // that the router chooses from
  int64_t shared_experts = 0;  // after the bank's, for every token
  SharedGate shared_gate = SharedGate::none;
  Activation activation = Activation::swiglu;
  Clamp clamp;
  Clamp shared_clamp;  // of the shared experts
  bool multiplier = false;
  OutputActivation output_activation = OutputActivation::none;
  WeightPlace weight_on = WeightPlace::output;
  GatingRule gating;
  LayerFormats formats;
  // Whether gate and up are apart though their formats are equal, because they may change their inputs differently.
  bool separate_gate = false;
  DType bias_dtype = DType::f32;
  // What the experts' products round their rows to, where their weights are quantised.
  TokenFormat tokens = TokenFormat::none;
  // The experts that the layer holds. Others add nothing, so the outputs of several banks add up to the layer's.
  ExpertRange bank;

  // Experts of the bank plus the shared ones.
  int64_t all_experts() const { return bank.count + shared_experts; }
  // Whether gate and up are products of their own.
  bool gate_apart(const ExpertFormats& experts) const {
    return is_gated(activation) && (separate_gate || experts.gate != experts.up);
  }
  // The group with the bank's experts.
  static constexpr size_t kBankGroup = 0;
  // One group, or the bank's experts and behind them, as in the order of rows, the shared ones apart.
  std::vector<ExpertGroup> groups() const {
    if (shared_experts == 0 || !formats.shared) return {{{0, all_experts()}, formats.experts()}};
    return {{{0, bank.count}, formats.experts()}, {{bank.count, shared_experts}, *formats.shared}};
  }
  // The clamps of a group's experts, counted within the group.
  ExpertClamps clamps(const ExpertRange& group) const {
    return {clamp, shared_clamp, static_cast<int32_t>(std::max<int64_t>(0, bank.count - group.first))};
  }
  // Whether a token's slots are not its choices alone: the shared experts' follow, or their softmax gate, which every
  // bank has, weighs the choices.
  bool has_own_slots() const { return shared_experts > 0 || shared_gate == SharedGate::softmax; }
  // Slots of a token: its chosen experts, then the shared ones.
  int64_t slots(int64_t choices) const { return choices + shared_experts; }
  int64_t gate_up_rows() const { return (is_gated(activation) ? 2 : 1) * intermediate; }
  // Linear outputs of the shared experts' gate.
  int64_t shared_gate_rows() const {
    return shared_gate == SharedGate::none ? 0 : shared_gate == SharedGate::sigmoid ? 1 : 2;
  }
};

// One expert's weights. Matrices are absent if the layer has no gate, no multiplier or no biases.
struct ExpertViews {
  WeightView gate, up, multiplier;  // [I, H]
  WeightView down;                  // [H, I]
  MatrixView gate_bias, up_bias, down_bias;
};

// The tensors of a pass; those that its stages neither read nor write are absent.
struct LayerForward {
  TensorView x = {};         // [T, H] float
  TensorView logits = {};    // [T, E] f32: written by router, or given for gating
  TensorView ids = {};       // [T, k] i32 and
  TensorView weights = {};   // [T, k] f32: written by gating, or given for sort and combine, with any k
  TensorView residual = {};  // [T, H] float: added to y by combine; absent: nothing
  TensorView y = {};         // [T, H] like x
  // The rows before the activation, of every slot, in the order of experts: written by gate_up; absent: not kept. Rows
  // without an expert are zeros. Not together with `state`.
  TensorView pre = {};         // [R, P] float: gate before up, or up alone
  TensorView multiplied = {};  // [R, I] float: of the third projection
  // At most this many of the ids are not -1; -1: unknown.
  int64_t max_choices = -1;
  // Where the stages find what those of earlier calls with the same tensors have left, and keep what they leave; null:
  // nothing outlasts the call.
  ForwardState* state = nullptr;

  // Experts chosen for a token.
  int64_t choices(const LayerDescription& layer) const { return ids.absent() ? layer.gating.top_k : ids.shape[1]; }
  bool keeps_rows() const { return !pre.absent() || !multiplied.absent(); }
};

}  // namespace moe
