// Sort: the (token, slot) pairs of a routing in order of their experts, stably.
#pragma once

#include "core/problem.h"
#include "cuda/id_error.h"
#include "cuda/plan.h"

#include <ptx/device.cuh>

namespace moe::MOE_GPU_NAMESPACE {

// `workspace` holds plan.workspace_bytes.
Status launch_sort(const Sort& p, const gpu::SortPlan& plan, void* workspace, gpu::IdError* error, Stream stream);

}  // namespace moe::MOE_GPU_NAMESPACE
