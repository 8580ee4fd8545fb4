#include <ptx/launch.cuh>

#include "gpu/gemm/build_tile_map.cuh"

namespace moe::MOE_GPU_NAMESPACE {
namespace {

constexpr int kMaxThreads = 1024;

MOE_KERNEL(tile_map_kernel, (kMaxThreads), const TileMapArguments a) { build_tile_map(a); }

}  // namespace

TileMapArguments tile_map_arguments(const DividedRows& divided, const MappedExperts& mapped, int tile_rows, void* map,
                                    gpu::IdError* error) {
  const auto [offsets, experts, rows] = divided;
  const ExpertRange& group = mapped.group;
  int* first_rows = gpu::first_rows_of(map, rows, experts, tile_rows);
  return {.offsets = offsets,
          .places = mapped.places,
          .first_place = mapped.first_place,
          .map = static_cast<TileMapHeader*>(map),
          .first_rows = first_rows,
          .first_tiles = first_rows + gpu::row_ranges(experts) + 1,
          .error = error,
          .experts = static_cast<int>(experts),
          .rows = static_cast<int>(rows),
          .tile_rows = tile_rows,
          .first_expert = static_cast<int>(group.first),
          .first_range = group.first == 0 ? 0 : static_cast<int>(group.first) + 1,
          .end_range = static_cast<int>(group.end() + (group.end() == experts ? 2 : 1)),
          .others = mapped.others};
}

Status launch_tile_map(const TileMapArguments& arguments, int max_threads, Stream stream) {
  const int threads = max_threads < kMaxThreads ? max_threads : kMaxThreads;
  return launch("tile_map", tile_map_kernel, dim3(1), dim3(threads), 0, stream, arguments);
}

}  // namespace moe::MOE_GPU_NAMESPACE
