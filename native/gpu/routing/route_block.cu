#include "gpu/routing/route_block.cuh"

#include <algorithm>

#include <ptx/launch.cuh>

#include "gpu/gemm/build_tile_map.cuh"
#include "gpu/routing/gating_tokens.cuh"
#include "gpu/routing/sort_units.cuh"

namespace moe::MOE_GPU_NAMESPACE {
namespace {

static_assert(sizeof(WarpTotals) + sizeof(TileMapShared) <= gpu::kStaticShared);

struct Arguments {
  GatingArguments gating;
  SharedSlotsArguments slots;
  SortArguments sort;
  TileMapArguments maps[kMostTileMaps];
  bool fills_slots;
  int map_count;
};

struct NoGating {
  static constexpr int kThreads = gpu::kSortThreads;
  __device__ static void run(const GatingArguments&) {}
};

template <int kPerLane, bool kByLogit>
struct BlockGating {
  static constexpr int kThreads = gpu::kRouteThreads;
  __device__ static void run(const GatingArguments& a) {
    gate_tokens<kPerLane, kByLogit>(a);
    __syncthreads();
  }
};

template <class Gating>
MOE_KERNEL(route_block_kernel, (Gating::kThreads, 1), const Arguments a) {
  Gating::run(a.gating);
  if (a.fills_slots) {
    fill_shared_slots(a.slots);
    __syncthreads();
  }
  sort_in_block(a.sort);
  for (int i = 0; i < a.map_count; ++i) {
    __syncthreads();
    build_tile_map(a.maps[i]);
  }
}

}  // namespace

Status launch_route_block(const RouteBlock& work, const gpu::SortPlan& plan, const gpu::DeviceTraits& traits,
                          Stream stream) {
  Arguments arguments{.gating = {},
                      .slots = {},
                      .sort = work.sort,
                      .maps = {},
                      .fills_slots = work.slots != nullptr,
                      .map_count = static_cast<int>(work.maps.size())};
  if (work.slots != nullptr) arguments.slots = *work.slots;
  std::ranges::copy(work.maps, arguments.maps);
  const auto enqueue = [&](auto kernel, int threads) {
    return launch("route_block", kernel, dim3(1), dim3(threads), plan.shared_bytes, stream, arguments);
  };
  const int64_t ranges = work.maps.empty() ? 0 : gpu::row_ranges(work.maps.front().experts);
  if (work.gating == nullptr) {
    return enqueue(route_block_kernel<NoGating>, gpu::route_threads(plan, ranges, traits));
  }
  const GatingArguments& gating = arguments.gating = *work.gating;
  const int threads = gpu::route_threads_with_gating(plan, ranges, gating.tokens, traits);
  const gpu::GatingPlan gating_plan = gpu::plan_gating(gating.tokens, gating.experts, traits);
  return dispatch_gating(gating, gating_plan.per_lane, [&]<int kPerLane, bool kByLogit>() {
    return enqueue(route_block_kernel<BlockGating<kPerLane, kByLogit>>, threads);
  });
}

}  // namespace moe::MOE_GPU_NAMESPACE
