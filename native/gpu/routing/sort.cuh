// Sorts the (token, slot) pairs of a routing by expert, stably.
#pragma once

#include "core/operators/routing.h"
#include "gpu/plan/plan.h"
#include "gpu/runtime/id_error.h"

#include <ptx/device.cuh>

namespace moe::MOE_GPU_NAMESPACE {

// The slots' weights, to be put in the order of the rows.
struct SortedWeights {
  const float* weight_of_slot = nullptr;  // [T, k], or null
  float* weight_of_row = nullptr;         // [T * k]; rows without a slot are left as they are
};

// Valid ids are 0 .. limit - 1. Of these, p.tokens_per_expert.size() ids from `first` on are sorted; the others get no
// row.
struct SortRange {
  int64_t limit;
  int64_t first = 0;
};

// `workspace` has plan.workspace_bytes.
Status launch_sort(const Sort& p, const SortRange& range, const SortedWeights& weights, const gpu::SortPlan& plan,
                   void* workspace, gpu::IdError* error, Stream stream);

}  // namespace moe::MOE_GPU_NAMESPACE
