#include "core/operators/shared_slots.h"

#include "cpu/operators.h"
#include "cpu/runtime/indices.h"

namespace moe::cpu {

namespace {

constexpr int64_t kTokensAtOnce = 256;

}  // namespace

Status run(Context& context, const SharedSlots& p) {
  const int64_t choices = p.ids.shape[1], slots = p.slot_ids.shape[1], outputs = gate_outputs(p.gate);
  const int64_t tokens = slots == 0 ? 0 : p.slot_ids.shape[0];
  context.team.for_range(tokens, kTokensAtOnce, [&](int64_t begin, int64_t end) {
    for (int64_t token = begin; token < end; ++token) {
      const SharedShares shares = shared_shares(p.gate.as<const float>() + token * outputs, outputs);
      const int32_t* ids = p.ids.as<const int32_t>() + token * choices;
      const float* weights = p.weights.as<const float>() + token * choices;
      int32_t* slot_ids = p.slot_ids.as<int32_t>() + token * slots;
      float* slot_weights = p.slot_weights.as<float>() + token * slots;
      for (int64_t j = 0; j < choices; ++j) {
        slot_ids[j] = place_in_bank(index_or_none(ids[j], p.experts), p.bank_first, p.bank_count);
        slot_weights[j] = shares.routed * weights[j];
      }
      for (int64_t j = choices; j < slots; ++j) {
        slot_ids[j] = static_cast<int32_t>(p.bank_count + j - choices);
        slot_weights[j] = shares.shared;
      }
    }
  });
  return check_ids("sharedSlots: ids", p.ids, choices, TokenMask({}), p.experts, "an expert");
}

Status run(Context& context, const SharedSlotsBackward& p) {
  const int64_t choices = p.weights.shape[1], slots = p.d_slot_weights.shape[1], outputs = gate_outputs(p.gate);
  context.team.for_range(p.tokens(), kTokensAtOnce, [&](int64_t begin, int64_t end) {
    for (int64_t token = begin; token < end; ++token) {
      const SharedSlotGradients gradients{
          .weights = p.weights.as<const float>() + token * choices,
          .gate = p.gate.as<const float>() + token * outputs,
          .slot_gradient = p.d_slot_weights.as<const float>() + token * slots,
          .gradient = p.d_weights.as<float>() + token * choices,
          .gate_gradient = p.d_gate.absent() ? nullptr : p.d_gate.as<float>() + token * outputs,
          .choices = choices,
          .slots = slots,
          .gate_outputs = outputs};
      gradients.run();
    }
  });
  return {};
}

}  // namespace moe::cpu
