// The gating of a pass, by its own stage or by that of the sort.
#pragma once

#include "gpu/layer/pass.h"
#include "gpu/routing/gating.cuh"

namespace moe::MOE_GPU_NAMESPACE {

GatingArguments gating_of(const Pass& pass);

}  // namespace moe::MOE_GPU_NAMESPACE
