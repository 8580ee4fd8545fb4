// Experts that choose their tokens.
#pragma once

#include "gpu/plan/capacity_plan.h"

#include <ptx/device.cuh>

namespace moe::MOE_GPU_NAMESPACE {

// `workspace` holds plan.workspace_bytes.
Status launch_expert_choice(const ExpertChoice& p, const gpu::ExpertChoicePlan& plan, char* workspace,
                            unsigned long long* non_finite_rows, Stream stream);

}  // namespace moe::MOE_GPU_NAMESPACE
