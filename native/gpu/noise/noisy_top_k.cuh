// Noisy top-k gating: logits and the estimate of the experts' load.
#pragma once

#include "core/operators/noise.h"
#include "core/status.h"
#include "gpu/runtime/device_traits.h"
#include "gpu/runtime/id_error.h"

#include <ptx/device.cuh>

namespace moe::MOE_GPU_NAMESPACE {

Status launch_noisy_logits(const NoisyLogits& p, const gpu::DeviceTraits& traits, Stream stream);

// Where the parts of launch_expert_load's workspace lie.
struct ExpertLoadWorkspace {
  int64_t blocks;     // of kLoadBlock tokens
  size_t sums;        // [blocks, E] f64
  size_t tokens;      // [blocks, G] i64, of each block that chose the group
  size_t thresholds;  // [T, G]
  size_t bytes;
};
ExpertLoadWorkspace expert_load_workspace(const ExpertLoad& p);

Status launch_expert_load(const ExpertLoad& p, char* workspace, gpu::IdError* error, const gpu::DeviceTraits& traits,
                          Stream stream);

}  // namespace moe::MOE_GPU_NAMESPACE
