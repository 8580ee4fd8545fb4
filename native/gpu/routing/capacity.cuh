// Limits of what experts take.
#pragma once

#include "gpu/plan/capacity_plan.h"
#include "gpu/runtime/id_error.h"

#include <ptx/device.cuh>

namespace moe::MOE_GPU_NAMESPACE {

// `workspace` holds plan.workspace_bytes.
Status launch_limit_capacity(const LimitCapacity& p, const gpu::CapacityPlan& plan, char* workspace,
                             gpu::IdError* error, Stream stream);

// Where p.slots is filled with -1 already. `workspace` holds plan.sorted.workspace_bytes.
Status launch_expert_slots(const ExpertSlots& p, const gpu::ExpertSlotsPlan& plan, char* workspace, gpu::IdError* error,
                           Stream stream);

}  // namespace moe::MOE_GPU_NAMESPACE
