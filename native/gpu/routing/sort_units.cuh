// The device side of the sort: a stable counting sort. The slots are cut into units of consecutive slots, one warp
// each. First count each unit's slots of every expert, then sum over the units before it, then give each slot its
// place. No place depends on the order in which warps run.
#pragma once

#include "gpu/routing/sort.cuh"
#include "gpu/tile/checked_id.cuh"
#include "gpu/tile/loops.cuh"
#include "gpu/tile/reduce.cuh"

namespace moe::MOE_GPU_NAMESPACE {

__device__ __forceinline__ int lane_index() { return static_cast<int>(threadIdx.x % 32); }
__device__ __forceinline__ int warp_index() { return static_cast<int>(threadIdx.x / 32); }

// Calls use(slot, expert) for the unit's slots in order, 32 at once. Expert is -1 past the unit's end and where no
// expert is chosen.
template <class Use>
__device__ __forceinline__ void for_each_slot(const SortArguments& a, int unit, Use&& use) {
  const int64_t begin = unit * a.slots_per_unit;
  const int64_t end = begin + a.slots_per_unit < a.slots ? begin + a.slots_per_unit : a.slots;
  for (int64_t base = begin; base < end; base += 32) {
    const int64_t slot = base + lane_index();
    int expert = -1;
    if (slot < end) {
      expert = checked_id(a.ids[slot], a.id_limit, slot, a.error) - a.first_id;
      if (expert < 0 || expert >= a.experts) expert = -1;
    }
    use(slot, slot < end, expert);
  }
}

__device__ __forceinline__ bool is_leader(unsigned peers) { return __ffs(static_cast<int>(peers)) - 1 == lane_index(); }

// Sets counts[e] to the unit's slots of expert e.
__device__ __forceinline__ void count_unit(const SortArguments& a, int unit, int* counts) {
  for (int expert = lane_index(); expert < a.experts; expert += 32) counts[expert] = 0;
  __syncwarp();
  for_each_slot(a, unit, [&](int64_t, bool, int expert) {
    const unsigned peers = __match_any_sync(kAllLanes, expert);
    if (expert >= 0 && is_leader(peers)) counts[expert] += __popc(peers);
    __syncwarp();
  });
}

// Turns an expert's counts in the units into where each unit begins among the expert's rows, and returns their sum.
__device__ __forceinline__ int begin_units(const SortArguments& a, int* unit_counts, int expert) {
  // Counts that are loaded together, without branches, so that a thread waits once for all of them.
  constexpr int kTogether = 16;
  const auto place = [&](int unit) { return unit_counts + static_cast<int64_t>(unit) * a.experts + expert; };
  int total = 0;
  for (int first = 0; first < a.units; first += kTogether) {
    int own[kTogether];
#pragma unroll
    for (int i = 0; i < kTogether; ++i) own[i] = *place(min(first + i, a.units - 1));
#pragma unroll
    for (int i = 0; i < kTogether; ++i) {
      if (first + i >= a.units) continue;
      *place(first + i) = total;
      total += own[i];
    }
  }
  return total;
}

// Turns the units' counts into their beginnings, writes offsets and tokens per expert, and calls use(expert, offset) in
// the expert's thread. Runs in one block: threads side by side take experts side by side.
template <class Use>
__device__ __forceinline__ void scan_counts(const SortArguments& a, int* unit_counts, Use&& use) {
  static_assert(sizeof(WarpTotals) <= gpu::kStaticShared);
  WarpTotals& totals = ptx::shared<WarpTotals>();
  int before = 0;
  for (int base = 0; base < a.experts; base += static_cast<int>(blockDim.x)) {
    const int expert = base + static_cast<int>(threadIdx.x);
    const bool exists = expert < a.experts;
    const int own = exists ? begin_units(a, unit_counts, expert) : 0;
    int total;
    const int inclusive = block_inclusive_scan(own, Sum{}, totals, total);
    if (exists) {
      const int offset = before + inclusive - own;
      a.tokens_per_expert[expert] = own;
      a.offsets[expert] = offset;
      use(expert, offset);
    }
    before += total;
  }
  if (threadIdx.x == 0) a.offsets[a.experts] = before;
}

// Gives each of the unit's slots its row. `next` has the unit's first row of every expert, and is used up.
__device__ __forceinline__ void place_unit(const SortArguments& a, int unit, int* next) {
  for_each_slot(a, unit, [&](int64_t slot, bool exists, int expert) {
    const unsigned peers = __match_any_sync(kAllLanes, expert);
    const unsigned earlier = peers & ((1u << lane_index()) - 1);
    const int row = expert >= 0 ? next[expert] + __popc(earlier) : -1;
    __syncwarp();
    if (expert >= 0 && is_leader(peers)) next[expert] += __popc(peers);
    __syncwarp();
    if (exists) a.row_of_slot[slot] = row;
    if (row < 0) return;
    a.token_of_row[row] = static_cast<int>(slot / a.top_k);
    if (a.weights.weight_of_slot != nullptr) a.weights.weight_of_row[row] = a.weights.weight_of_slot[slot];
  });
}

// The rows after the last expert's belong to no token.
__device__ __forceinline__ void fill_tail(const SortArguments& a) {
  for_each_item(a.offsets[a.experts], a.slots, [&](int64_t row) { a.token_of_row[row] = -1; });
}

// All of it in one block, which keeps the counts in dynamic shared memory.
__device__ __forceinline__ void sort_in_block(const SortArguments& a) {
  int* counts = ptx::dynamic_shared<int>();
  int* own_counts = counts + static_cast<int64_t>(warp_index()) * a.experts;
  // With many experts and few slots, the block has more warps than units.
  const bool has_unit = warp_index() < a.units;
  if (has_unit) count_unit(a, warp_index(), own_counts);
  __syncthreads();
  scan_counts(a, counts, [&](int expert, int offset) {
    for (int unit = 0; unit < a.units; ++unit) counts[unit * a.experts + expert] += offset;
  });
  __syncthreads();
  if (has_unit) place_unit(a, warp_index(), own_counts);
  fill_tail(a);
}

}  // namespace moe::MOE_GPU_NAMESPACE
