// The groups that expertLoad and its gradient are about.
#pragma once

#include <algorithm>

#include "core/operators/noise.h"
#include "cpu/runtime/indices.h"

namespace moe::cpu {

// The groups of a hierarchical gate and each token's choices; without one, a single group that every token chose.
struct LoadGroups {
  // p: ExpertLoad or its gradient.
  template <class Load>
  explicit LoadGroups(const Load& p)
      : mask(p.token_mask), ids(p.group_ids), count(p.groups()), experts(p.clean.shape[1] / count) {}

  // Whether the token counts and chose the group.
  bool chosen(int64_t token, int64_t group) const {
    if (!mask.counts(token)) return false;
    if (ids.absent()) return true;
    const int32_t* end = ids.as<const int32_t>() + (token + 1) * ids.shape[1];
    return std::find(end - ids.shape[1], end, static_cast<int32_t>(group)) != end;
  }

  // Reports ids that are out of range.
  Status check(const char* name) const {
    return ids.absent() ? Status{} : check_ids(name, ids, ids.shape[1], mask, count, "a group");
  }

  TokenMask mask;
  TensorView ids;
  int64_t count;
  int64_t experts;  // per group
};

}  // namespace moe::cpu
