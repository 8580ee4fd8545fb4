#include <ptx/launch.cuh>

#include "gpu/operators.h"
#include "gpu/routing/route_block.cuh"
#include "gpu/routing/sort_units.cuh"

namespace moe::MOE_GPU_NAMESPACE {
namespace {

// The memory in which the warp keeps its unit's counts.
__device__ __forceinline__ int* working_counts(const SortArguments& a, int* unit_counts) {
  return a.shared_counts ? ptx::dynamic_shared<int>() + static_cast<int64_t>(warp_index()) * a.experts : unit_counts;
}

MOE_KERNEL(sort_count_kernel, (gpu::kSortThreads), const SortArguments a) {
  const int unit = static_cast<int>(blockIdx.x * (blockDim.x / 32)) + warp_index();
  if (unit >= a.units) return;
  int* unit_counts = a.unit_counts + static_cast<int64_t>(unit) * a.experts;
  int* counts = working_counts(a, unit_counts);
  count_unit(a, unit, counts);
  if (!a.shared_counts) return;
  for (int expert = lane_index(); expert < a.experts; expert += 32) unit_counts[expert] = counts[expert];
}

MOE_KERNEL(sort_scan_kernel, (gpu::kSortScanThreads), const SortArguments a) {
  scan_counts(a, a.unit_counts, [](int, int) {});
}

MOE_KERNEL(sort_place_kernel, (gpu::kSortThreads), const SortArguments a) {
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

SortArguments sort_arguments(const Sort& p, const SortRange& range, const SortedWeights& weights,
                             const gpu::SortPlan& plan, void* workspace, gpu::IdError* error) {
  return {.ids = p.ids.as<int>(),
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
}

Status launch_sort(const SortArguments& arguments, const gpu::SortPlan& plan, const gpu::DeviceTraits& traits,
                   Stream stream) {
  if (plan.single_block) return launch_route_block({.sort = arguments}, plan, traits, stream);
  const dim3 grid(plan.grid);
  const dim3 block(plan.threads);
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
  return launch_sort(sort_arguments(p, {.limit = experts}, {}, plan, scratch.at(0), error), plan, context.traits(),
                     context.stream());
}

}  // namespace moe::MOE_GPU_NAMESPACE
