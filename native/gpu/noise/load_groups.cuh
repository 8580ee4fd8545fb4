// The groups that expertLoad and its gradient are about.
#pragma once

#include <cstdint>

#include "core/token_mask.h"
#include "gpu/runtime/context.h"
#include "gpu/tile/checked_id.cuh"
#include "gpu/tile/reduce.cuh"

#include <ptx/device.cuh>

namespace moe::MOE_GPU_NAMESPACE {

// The groups of a hierarchical gate and each token's choices; without one, a single group that every token chose.
struct LoadGroups {
  TokenMask mask;
  const int* ids;     // null: without a gate
  const float* load;  // null: the same
  int64_t count;
  int64_t choices;  // of each token
  IdError* error;

  // Whether the token counts and chose the group with choice `first` or every `step`th after it.
  __device__ __forceinline__ bool chosen(int64_t token, int64_t group, int64_t first = 0, int64_t step = 1) const {
    if (!mask.counts(token)) return false;
    if (ids == nullptr) return true;
    bool found = false;
    for (int64_t choice = first; choice < choices; choice += step) {
      const int64_t position = token * choices + choice;
      found = found || checked_id(ids[position], count, position, error) == group;
    }
    return found;
  }
  // Whether it did at all. All lanes of a warp ask, and get the same answer.
  __device__ __forceinline__ bool chosen_by_warp(int64_t token, int64_t group) const {
    return __any_sync(kAllLanes, chosen(token, group, threadIdx.x % 32, 32)) != 0;
  }
};

// p: ExpertLoad or its gradient. `name` is what errors call the ids.
template <class Load>
LoadGroups load_groups_of(Context& context, const Load& p, const char* name) {
  const int64_t choices = p.group_ids.absent() ? 0 : p.group_ids.shape[1];
  return {
      .mask = TokenMask(p.token_mask),
      .ids = p.group_ids.template as<int>(),
      .load = p.group_load.template as<float>(),
      .count = p.groups(),
      .choices = choices,
      .error = context.errors.next({.parameter = name, .what = "a group", .limit = p.groups(), .columns = choices})};
}

}  // namespace moe::MOE_GPU_NAMESPACE
