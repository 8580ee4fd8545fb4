// Writes every token's slots in a layer with shared experts.
#pragma once

#include "core/operators/shared_slots.h"
#include "gpu/runtime/device_traits.h"
#include "gpu/runtime/id_error.h"
#include "gpu/tile/checked_id.cuh"
#include "gpu/tile/loops.cuh"

#include <ptx/device.cuh>

namespace moe::MOE_GPU_NAMESPACE {

struct SharedSlotsArguments {
  const int* ids;
  const float* weights;
  const float* gate;
  int* slot_ids;
  float* slot_weights;
  gpu::IdError* error;
  int64_t slots;
  int top_k;
  int slots_per_token;
  int gate_outputs;
  int experts;
  int bank_first, bank_count;
};

// An id that is none of the E experts is reported and becomes -1.
SharedSlotsArguments shared_slots_arguments(const SharedSlots& p, gpu::IdError* error);

Status launch_shared_slots(const SharedSlotsArguments& arguments, const gpu::DeviceTraits& traits, Stream stream);

// By the threads of a grid.
__device__ __forceinline__ void fill_shared_slots(const SharedSlotsArguments& a) {
  for_each_item(a.slots, [&](int64_t slot) {
    const int64_t token = slot / a.slots_per_token;
    const int j = static_cast<int>(slot % a.slots_per_token);
    const SharedShares shares = shared_shares(a.gate + token * a.gate_outputs, a.gate_outputs);
    if (j >= a.top_k) {
      a.slot_ids[slot] = a.bank_count + j - a.top_k;
      a.slot_weights[slot] = shares.shared;
    } else {
      const int64_t chosen = token * a.top_k + j;
      const int expert = checked_id(a.ids[chosen], a.experts, chosen, a.error);
      a.slot_ids[slot] = place_in_bank(expert, a.bank_first, a.bank_count);
      a.slot_weights[slot] = shares.routed * a.weights[chosen];
    }
  });
}

}  // namespace moe::MOE_GPU_NAMESPACE
