#include "gpu/experts/shared_slots.cuh"

#include <cmath>

#include <ptx/launch.cuh>

#include "core/scores.h"
#include "gpu/plan/plan.h"
#include "gpu/tile/checked_id.cuh"
#include "gpu/tile/loops.cuh"

namespace moe::MOE_GPU_NAMESPACE {
namespace {

struct Arguments {
  const int* ids;
  const float* weights;
  const float* gate;
  int* slot_ids;
  float* slot_weights;
  IdError* error;
  int64_t slots;
  int top_k;
  int slots_per_token;
  int experts;
  int bank_first, bank_count;
  SharedGate shared_gate;
};

// Factors for the weights of the routed and of the shared experts.
struct Shares {
  float routed, shared;
};

__device__ __forceinline__ Shares shares_of(const Arguments& a, int64_t token) {
  switch (a.shared_gate) {
    case SharedGate::none: break;
    case SharedGate::sigmoid: return {1.0f, sigmoid(a.gate[token])};
    case SharedGate::softmax: {
      const float routed = a.gate[2 * token];
      const float shared = a.gate[2 * token + 1];
      const float max = fmaxf(routed, shared);
      const Shares shares{exponential(routed, max), exponential(shared, max)};
      const float sum = shares.routed + shares.shared;
      return sum > 0.0f ? Shares{shares.routed / sum, shares.shared / sum} : Shares{0.0f, 0.0f};
    }
  }
  return {1.0f, 1.0f};
}

// One thread per slot.
MOE_KERNEL(shared_slots_kernel, (gpu::kRowThreads), const Arguments a) {
  for_each_item(a.slots, [&](int64_t slot) {
    const int64_t token = slot / a.slots_per_token;
    const int j = static_cast<int>(slot % a.slots_per_token);
    const Shares shares = shares_of(a, token);
    if (j >= a.top_k) {
      a.slot_ids[slot] = a.bank_count + j - a.top_k;
      a.slot_weights[slot] = shares.shared;
    } else {
      const int64_t chosen = token * a.top_k + j;
      const int place = checked_id(a.ids[chosen], a.experts, chosen, a.error) - a.bank_first;
      a.slot_ids[slot] = place >= 0 && place < a.bank_count ? place : -1;
      a.slot_weights[slot] = shares.routed * a.weights[chosen];
    }
  });
}

}  // namespace

Status launch_shared_slots(const SharedSlots& p, gpu::IdError* error, const gpu::DeviceTraits& traits, Stream stream) {
  const Arguments arguments{.ids = p.ids.as<int>(),
                            .weights = p.weights.as<float>(),
                            .gate = p.gate.as<float>(),
                            .slot_ids = p.slot_ids.as<int>(),
                            .slot_weights = p.slot_weights.as<float>(),
                            .error = error,
                            .slots = p.slot_ids.size(),
                            .top_k = static_cast<int>(p.ids.shape[1]),
                            .slots_per_token = static_cast<int>(p.slot_ids.shape[1]),
                            .experts = static_cast<int>(p.experts),
                            .bank_first = static_cast<int>(p.bank.first),
                            .bank_count = static_cast<int>(p.bank.count),
                            .shared_gate = p.shared_gate};
  return launch("shared_slots", shared_slots_kernel, dim3(gpu::element_grid(arguments.slots, traits)),
                dim3(gpu::kRowThreads), 0, stream, arguments);
}

}  // namespace moe::MOE_GPU_NAMESPACE
