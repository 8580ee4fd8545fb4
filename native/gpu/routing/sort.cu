#include "gpu/routing/sort.cuh"

#include <ptx/launch.cuh>

#include "gpu/operators.h"
#include "gpu/tile/checked_id.cuh"
#include "gpu/tile/loops.cuh"
#include "gpu/tile/reduce.cuh"

namespace moe::MOE_GPU_NAMESPACE {
namespace {

// A stable counting sort. The slots are cut into units of consecutive slots, one warp each. First count each unit's
// slots of every expert, then sum over the units before it, then give each slot its place. No place depends on the
// order in which warps run.
struct Arguments {
  const int* ids;
  int id_limit, first_id;
  int* offsets;
  int* tokens_per_expert;
  int* token_of_row;
  int* row_of_slot;
  SortedWeights weights;
  int* unit_counts;  // [units, experts]: counts, then where the unit begins among the expert's rows
  IdError* error;
  int64_t slots;
  int64_t slots_per_unit;
  int top_k;
  int experts;
  int units;
  // Whether the warps of the count and place kernels keep their counts in shared memory.
  bool shared_counts;
};

__device__ __forceinline__ int lane_index() { return static_cast<int>(threadIdx.x % 32); }
__device__ __forceinline__ int warp_index() { return static_cast<int>(threadIdx.x / 32); }

// Calls use(slot, expert) for the unit's slots in order, 32 at once. Expert is -1 past the unit's end and where no
// expert is chosen.
template <class Use>
__device__ __forceinline__ void for_each_slot(const Arguments& a, int unit, Use&& use) {
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
__device__ void count_unit(const Arguments& a, int unit, int* counts) {
  for (int expert = lane_index(); expert < a.experts; expert += 32) counts[expert] = 0;
  __syncwarp();
  for_each_slot(a, unit, [&](int64_t, bool, int expert) {
    const unsigned peers = __match_any_sync(kAllLanes, expert);
    if (expert >= 0 && is_leader(peers)) counts[expert] += __popc(peers);
    __syncwarp();
  });
}

// Turns an expert's counts in the units into where each unit begins among the expert's rows, and returns their sum.
__device__ __forceinline__ int begin_units(const Arguments& a, int* unit_counts, int expert) {
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
__device__ __forceinline__ void scan_counts(const Arguments& a, int* unit_counts, Use&& use) {
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
__device__ void place_unit(const Arguments& a, int unit, int* next) {
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
__device__ void fill_tail(const Arguments& a) {
  for_each_item(a.offsets[a.experts], a.slots, [&](int64_t row) { a.token_of_row[row] = -1; });
}

MOE_KERNEL(sort_block_kernel, (gpu::kSortThreads, 1), const Arguments a) {
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

// The memory in which the warp keeps its unit's counts.
__device__ __forceinline__ int* working_counts(const Arguments& a, int* unit_counts) {
  return a.shared_counts ? ptx::dynamic_shared<int>() + static_cast<int64_t>(warp_index()) * a.experts : unit_counts;
}

MOE_KERNEL(sort_count_kernel, (gpu::kSortThreads), const Arguments a) {
  const int unit = static_cast<int>(blockIdx.x * (blockDim.x / 32)) + warp_index();
  if (unit >= a.units) return;
  int* unit_counts = a.unit_counts + static_cast<int64_t>(unit) * a.experts;
  int* counts = working_counts(a, unit_counts);
  count_unit(a, unit, counts);
  if (!a.shared_counts) return;
  for (int expert = lane_index(); expert < a.experts; expert += 32) unit_counts[expert] = counts[expert];
}

MOE_KERNEL(sort_scan_kernel, (gpu::kSortScanThreads), const Arguments a) {
  scan_counts(a, a.unit_counts, [](int, int) {});
}

MOE_KERNEL(sort_place_kernel, (gpu::kSortThreads), const Arguments a) {
  fill_tail(a);
  const int unit = static_cast<int>(blockIdx.x * (blockDim.x / 32)) + warp_index();
  if (unit >= a.units) return;
  int* begins = a.unit_counts + static_cast<int64_t>(unit) * a.experts;
  int* next = working_counts(a, begins);
  for (int expert = lane_index(); expert < a.experts; expert += 32) next[expert] = a.offsets[expert] + begins[expert];
  __syncwarp();
  place_unit(a, unit, next);
}

}  // namespace

Status launch_sort(const Sort& p, const SortRange& range, const SortedWeights& weights, const gpu::SortPlan& plan,
                   void* workspace, gpu::IdError* error, Stream stream) {
  const Arguments arguments{.ids = p.ids.as<int>(),
                            .id_limit = static_cast<int>(range.limit),
                            .first_id = static_cast<int>(range.first),
                            .offsets = p.offsets.as<int>(),
                            .tokens_per_expert = p.tokens_per_expert.as<int>(),
                            .token_of_row = p.token_of_row.as<int>(),
                            .row_of_slot = p.row_of_slot.as<int>(),
                            .weights = weights,
                            .unit_counts = static_cast<int*>(workspace),
                            .error = error,
                            .slots = p.ids.size(),
                            .slots_per_unit = plan.slots_per_unit,
                            .top_k = static_cast<int>(p.ids.shape[1]),
                            .experts = static_cast<int>(p.tokens_per_expert.shape[0]),
                            .units = plan.units,
                            .shared_counts = plan.shared_bytes > 0};
  const dim3 grid(plan.grid);
  const dim3 block(plan.threads);
  if (plan.single_block)
    return launch("sort_block", sort_block_kernel, grid, block, plan.shared_bytes, stream, arguments);
  MOE_TRY(launch("sort_count", sort_count_kernel, grid, block, plan.shared_bytes, stream, arguments));
  MOE_TRY(launch("sort_scan", sort_scan_kernel, dim3(1), dim3(plan.scan_threads), 0, stream, arguments));
  return launch("sort_place", sort_place_kernel, grid, block, plan.shared_bytes, stream, arguments);
}

Status run(Context& context, const Sort& p) {
  const int64_t experts = p.tokens_per_expert.shape[0];
  const gpu::SortPlan plan = gpu::plan_sort(p.ids.size(), experts, context.traits());
  Scratch scratch(*context.runtime);
  MOE_TRY(scratch.reserve(plan.workspace_bytes));
  gpu::IdError* error =
      context.errors.next({.parameter = "sort: ids", .what = "an expert", .limit = experts, .columns = p.ids.shape[1]});
  return launch_sort(p, {.limit = experts}, {}, plan, scratch.at(0), error, context.stream());
}

}  // namespace moe::MOE_GPU_NAMESPACE
