// One pass of tokens through a layer's stages. All of it is enqueued without the host reading anything in between.
#pragma once

#include "core/layer/description.h"
#include "gpu/layer/pass_state.h"
#include "gpu/layer/weights.h"
#include "gpu/plan/layer_plan.h"
#include "gpu/runtime/data_errors.h"
#include "gpu/runtime/device_traits.h"

#include <ptx/device.cuh>

namespace moe::MOE_GPU_NAMESPACE {

class OffloadedPass;

struct Pass {
  const LayerDescription& layer;
  const LayerWeights& weights;
  const LayerForward& forward;
  const gpu::LayerPlan& plan;
  const gpu::PassState& state;
  char* workspace;
  DataErrors& errors;
  unsigned long long* non_finite_rows;  // the device's counter; replays add to it too
  const gpu::DeviceTraits& traits;
  Stream stream;
  // Brings the bank's experts to the device; null if all are there.
  OffloadedPass* offload = nullptr;
  // Where the matrix of the bank's first expert is, if the others' are behind it in order.
  int bank_place = 0;

  OffloadedPass* offload_of(size_t group) const { return group == LayerDescription::kBankGroup ? offload : nullptr; }
};

// Enqueues one stage, which reads what earlier stages left in pass.state and allocates nothing. One file each.
#define MOE_STAGE(stage, name) Status run_##stage(const Pass& pass);
MOE_STAGES(MOE_STAGE)
#undef MOE_STAGE

inline Status run_stage(Stage stage, const Pass& pass) {
  switch (stage) {
#define MOE_STAGE(stage, name) \
  case Stage::stage: return run_##stage(pass);
    MOE_STAGES(MOE_STAGE)
#undef MOE_STAGE
  }
  return {};
}

}  // namespace moe::MOE_GPU_NAMESPACE
