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

struct SortArguments {
  const int* ids;
  int id_limit, first_id;
  int* offsets;
  int* tokens_per_expert;
  int* token_of_row;
  int* row_of_slot;
  SortedWeights weights;
  int* unit_counts;  // [units, experts]: counts, then where the unit begins among the expert's rows
  gpu::IdError* error;
  int64_t slots;
  int64_t slots_per_unit;
  int top_k;
  int experts;
  int units;
  // Whether the warps of the count and place kernels keep their counts in shared memory.
  bool shared_counts;
};

// `workspace` has plan.workspace_bytes.
SortArguments sort_arguments(const Sort& p, const SortRange& range, const SortedWeights& weights,
                             const gpu::SortPlan& plan, void* workspace, gpu::IdError* error);

Status launch_sort(const SortArguments& arguments, const gpu::SortPlan& plan, const gpu::DeviceTraits& traits,
                   Stream stream);

}  // namespace moe::MOE_GPU_NAMESPACE
