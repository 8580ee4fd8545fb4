#include "gpu/plan/gemm_plan.h"

#include <algorithm>
#include <sstream>

#include "gpu/gemm/tile_map.h"
#include "gpu/plan/plan_parts.h"

namespace moe::gpu {
namespace {

// Shared memory that the system reserves for every block.
constexpr size_t kReservedShared = 1024;
// Vector accesses are 16 bytes.
constexpr int64_t kVectorBytes = 16;

// The height that an expert with an average number of rows fills once, or a lower one that the device can run.
int choose_tile(const GemmKernel& kernel, const GemmProblem& problem, const DeviceTraits& traits) {
  const int64_t average = problem.rows / std::max(problem.experts, int64_t{1});
  const int height = average <= 8 ? 16 : average <= 64 ? 64 : 128;
  int chosen = 0;
  while (chosen + 1 < std::ssize(kernel.tiles) && kernel.tiles[static_cast<size_t>(chosen)].rows < height) ++chosen;
  const auto fits = [&](const GemmTile& tile) {
    return tile.threads() <= traits.max_threads &&
           kernel.shared_bytes(tile, *problem.format) <= traits.shared_per_block;
  };
  while (chosen > 0 && !fits(kernel.tiles[static_cast<size_t>(chosen)])) --chosen;
  return chosen;
}

}  // namespace

Status plan_gemm(const GemmProblem& problem, const DeviceTraits& traits, GemmPlan* plan) {
  const GemmKernel* kernel = nullptr;
  MOE_TRY(
      find_gemm_kernel({.tokens = problem.x, .format = problem.format, .allowed = problem.allowed}, traits, &kernel));
  *plan = kernel->plan(*kernel, problem, traits);
  return {};
}

GemmPlan plan_tiles(const GemmKernel& kernel, const GemmProblem& problem, const DeviceTraits& traits) {
  GemmPlan plan{.kernel = &kernel};
  plan.tile_index = choose_tile(kernel, problem, traits);
  plan.tile = kernel.tiles[static_cast<size_t>(plan.tile_index)];
  plan.converts_x = kernel.x != problem.x.dtype || !problem.x_aligned;
  plan.x_pitch = plan.converts_x ? whole_vectors(problem.columns, kernel.x) : problem.columns;
  plan.column_tiles = ceil_divide(problem.packed_rows, plan.tile.columns);
  plan.max_row_tiles = max_row_tiles(problem.rows, problem.experts, plan.tile.rows);
  plan.tile_map_bytes = tile_map_bytes(problem.rows, problem.experts, plan.tile.rows);
  plan.shared_bytes = kernel.shared_bytes(plan.tile, *problem.format);
  const auto by_shared = static_cast<int64_t>(traits.shared_per_multiprocessor / (plan.shared_bytes + kReservedShared));
  plan.grid = capped_grid(plan.max_row_tiles * plan.column_tiles,
                          std::clamp(by_shared, int64_t{1}, int64_t{plan.tile.blocks}), traits);
  return plan;
}

size_t with_staged_sums(const GemmTile& tile, int64_t ring) {
  const int64_t sums = tile.rows * staged_pitch(tile.columns) * static_cast<int64_t>(sizeof(float));
  return static_cast<size_t>(std::max(ring, sums));
}

int64_t whole_vectors(int64_t elements, DType dtype) {
  return round_up(elements, kVectorBytes / static_cast<int64_t>(info(dtype).bytes));
}

size_t converted_bytes(const GemmPlan& plan, int64_t x_rows) {
  return plan.converts_x ? static_cast<size_t>(x_rows * plan.x_pitch) * info(plan.x_dtype()).bytes : 0;
}

bool rows_aligned(const TensorView& x) {
  const uint64_t row_bytes = static_cast<uint64_t>(x.shape[1]) * info(x.dtype).bytes;
  return (reinterpret_cast<uint64_t>(x.data) | row_bytes) % kVectorBytes == 0;
}

std::string describe(const GemmPlan& plan) {
  std::ostringstream text;
  text << "grouped GEMM " << plan.kernel->name << ", tile " << plan.tile.rows << "x" << plan.tile.columns << ", "
       << plan.tile.stages << " stages, grid " << plan.grid << " x " << plan.tile.threads() << ", shared "
       << plan.shared_bytes << ", at most " << plan.max_row_tiles << "x" << plan.column_tiles << " tiles";
  if (plan.converts_x) text << ", x copied to " << info(plan.x_dtype()).name << " rows of " << plan.x_pitch;
  return text.str();
}

}  // namespace moe::gpu
