// The slots of tokens in a layer with shared experts, and their gradient; see lib/core/operators/routing.ts.
#pragma once

#include <cmath>
#include <cstdint>

#include "core/operators/fields.h"
#include "core/scores.h"
#include "core/tensor_view.h"

namespace moe {

// Factors for the weights of the routed and of the shared experts.
struct SharedShares {
  float routed, shared;
};

// From a token's outputs of the shared experts' gate: none, one for a sigmoid, or two for a softmax.
MOE_HOST_DEVICE inline SharedShares shared_shares(const float* gate, int64_t outputs) {
  if (outputs == 0) return {1.0f, 1.0f};
  if (outputs == 1) return {1.0f, sigmoid(gate[0])};
  const float max = fmaxf(gate[0], gate[1]);
  const SharedShares terms{exponential(gate[0], max), exponential(gate[1], max)};
  const float sum = terms.routed + terms.shared;
  return sum > 0.0f ? SharedShares{terms.routed / sum, terms.shared / sum} : SharedShares{0.0f, 0.0f};
}

// The number within a bank of an expert, or of -1; -1 if the bank does not have it.
MOE_HOST_DEVICE inline int32_t place_in_bank(int64_t expert, int64_t first, int64_t count) {
  const int64_t place = expert - first;
  return place >= 0 && place < count ? static_cast<int32_t>(place) : -1;
}

// Columns of an optional gate [T, G].
inline int64_t gate_outputs(const TensorView& gate) { return gate.absent() ? 0 : gate.shape[1]; }

struct SharedSlots {
  static constexpr const char* kName = "sharedSlots";

  TensorView ids;
  TensorView weights;
  TensorView gate;
  TensorView slot_ids;
  TensorView slot_weights;
  int64_t experts = 0;
  int64_t bank_first = 0;
  int64_t bank_count = 0;
  int64_t shared_experts = 0;

  template <class Fields>
  static constexpr void fields(Fields& f) {
    f.input("ids", &SharedSlots::ids, "[T, k] i32");
    f.input("weights", &SharedSlots::weights, "[T, k] f32");
    f.optional_input("gate", &SharedSlots::gate, "[T, G] f32");
    f.output("slotIds", &SharedSlots::slot_ids, "[T, S] i32");
    f.output("slotWeights", &SharedSlots::slot_weights, "[T, S] f32");
    f.value("numExperts", &SharedSlots::experts);
    f.value("bankFirst", &SharedSlots::bank_first);
    f.value("bankCount", &SharedSlots::bank_count);
    f.value("sharedExperts", &SharedSlots::shared_experts);
  }

  Status check() const {
    constexpr int64_t kMost = INT32_MAX;
    const bool sizes = experts >= 0 && experts <= kMost && shared_experts >= 0 && shared_experts <= kMost;
    const bool bank = bank_first >= 0 && bank_first <= experts && bank_count >= 0 && bank_count <= experts - bank_first;
    return expect_sizes(
        sizes && bank && bank_count + shared_experts <= kMost && gate_outputs(gate) <= 2 &&
            slot_ids.shape[1] - shared_experts == ids.shape[1],
        "sharedSlots: expected a bank of the experts, at most two gates, and a slot for every choice and "
        "shared expert");
  }
};

struct SharedSlotsBackward {
  static constexpr const char* kName = "sharedSlotsBackward";

  TensorView weights;
  TensorView gate;
  TensorView d_slot_weights;
  TensorView d_weights;
  TensorView d_gate;

  template <class Fields>
  static constexpr void fields(Fields& f) {
    f.input("weights", &SharedSlotsBackward::weights, "[T, k] f32");
    f.optional_input("gate", &SharedSlotsBackward::gate, "[T, G] f32");
    f.input("dSlotWeights", &SharedSlotsBackward::d_slot_weights, "[T, S] f32");
    f.output("dWeights", &SharedSlotsBackward::d_weights, "[T, k] f32");
    f.optional_output("dGate", &SharedSlotsBackward::d_gate, "[T, G] f32");
  }

  // Without outputs T may be any number, with no memory behind it.
  int64_t tokens() const { return d_weights.size() + d_gate_size() == 0 ? 0 : weights.shape[0]; }

  Status check() const {
    return expect_sizes(
        gate_outputs(gate) <= 2 && d_slot_weights.shape[1] >= weights.shape[1] && (d_gate.absent() || !gate.absent()),
        "sharedSlotsBackward: expected at most two gates, and a slot for every choice");
  }

 private:
  int64_t d_gate_size() const { return d_gate.absent() ? 0 : d_gate.size(); }
};

// One token of sharedSlotsBackward.
struct SharedSlotGradients {
  const float* weights;
  const float* gate;
  const float* slot_gradient;
  float* gradient;
  float* gate_gradient;  // null: not wanted
  int64_t choices, slots, gate_outputs;

  MOE_HOST_DEVICE void run() const {
    const SharedShares shares = shared_shares(gate, gate_outputs);
    // By the shares.
    float routed = 0.0f, shared = 0.0f;
    for (int64_t j = 0; j < choices; ++j) {
      gradient[j] = shares.routed * slot_gradient[j];
      routed += weights[j] * slot_gradient[j];
    }
    for (int64_t j = choices; j < slots; ++j) shared += slot_gradient[j];
    if (gate_gradient == nullptr) return;
    if (gate_outputs == 1) {
      gate_gradient[0] = shares.shared * (1.0f - shares.shared) * shared;
    } else if (gate_outputs == 2) {
      gate_gradient[0] = shares.routed * shares.shared * (routed - shared);
      gate_gradient[1] = -gate_gradient[0];
    }
  }
};

}  // namespace moe
