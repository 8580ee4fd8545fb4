// Writes every token's slots in a layer with shared experts: the chosen ones, weighed by the shared experts' gate, then
// those of the shared experts that this bank holds, if any.
#pragma once

#include "core/layer/description.h"
#include "gpu/runtime/device_traits.h"
#include "gpu/runtime/id_error.h"

#include <ptx/device.cuh>

namespace moe::MOE_GPU_NAMESPACE {

struct SharedSlots {
  TensorView ids;           // [T, k] i32
  TensorView weights;       // [T, k] f32
  TensorView gate;          // [T, outputs of the gate] f32, or absent
  TensorView slot_ids;      // [T, k + n] i32
  TensorView slot_weights;  // [T, k + n] f32
  int64_t experts;          // E
  ExpertRange bank;         // the shared ones are its experts bank.count .. bank.count + n - 1
  SharedGate shared_gate;
};

// Turns ids into positions within the bank. An id that is none of the E experts is reported and becomes -1; ids of
// experts outside the bank become -1 too.
Status launch_shared_slots(const SharedSlots& p, gpu::IdError* error, const gpu::DeviceTraits& traits, Stream stream);

}  // namespace moe::MOE_GPU_NAMESPACE
