// Sort: the (token, slot) pairs of a routing in order of their experts, stably.
#pragma once

#include "core/operators/routing.h"
#include "gpu/plan/plan.h"
#include "gpu/runtime/id_error.h"

#include <ptx/device.cuh>

namespace moe::MOE_GPU_NAMESPACE {

// The slots' weights, brought into the order of the rows.
struct SortedWeights {
  const float* weight_of_slot = nullptr;  // [T, k], or null: there are none
  float* weight_of_row = nullptr;         // [T * k]; rows of no slot are left as they are
};

// What ids there are, 0 .. limit - 1, of which those from `first` on, as many as p.tokens_per_expert, are sorted. The
// others have no row.
struct SortRange {
  int64_t limit;
  int64_t first = 0;
};

// `workspace` holds plan.workspace_bytes.
Status launch_sort(const Sort& p, const SortRange& range, const SortedWeights& weights, const gpu::SortPlan& plan,
                   void* workspace, gpu::IdError* error, Stream stream);

}  // namespace moe::MOE_GPU_NAMESPACE
