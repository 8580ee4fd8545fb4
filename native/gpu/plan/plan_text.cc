// Plans in words.
#include <sstream>

#include "gpu/plan/plan.h"

namespace moe::gpu {

const char* path_name(GemmPath path) {
  constexpr const char* kNames[] = {"fma", "tf32", "f16", "bf16"};
  return kNames[static_cast<int>(path)];
}

std::string describe(const RouterPlan& plan) {
  std::ostringstream text;
  const RouterTile& tile = kRouterTiles[plan.tile];
  text << "router tile " << tile.block_tokens() << "x" << tile.block_experts() << " (warp " << tile.tokens << "x"
       << tile.experts << "), grid " << plan.grid;
  return text.str();
}

std::string describe(const GatingPlan& plan) {
  std::ostringstream text;
  text << "gating ";
  if (plan.per_lane > 0) {
    text << plan.per_lane << " logits a lane";
  } else {
    text << "logits read again";
  }
  text << ", grid " << plan.grid;
  return text.str();
}

std::string describe(const SortPlan& plan) {
  std::ostringstream text;
  text << "sort " << (plan.single_block ? "in one block" : "in three kernels") << ", " << plan.units << " units of "
       << plan.slots_per_unit << " slots, grid " << plan.grid << " x " << plan.threads << ", shared "
       << plan.shared_bytes << ", workspace " << plan.workspace_bytes;
  return text.str();
}

std::string describe(const CombinePlan& plan) {
  std::ostringstream text;
  text << "combine grid " << plan.grid_tokens << "x" << plan.grid_columns << " x " << plan.threads;
  return text.str();
}

std::string describe(const GemmPlan& plan) {
  std::ostringstream text;
  text << "grouped GEMM " << path_name(plan.path) << ", tile " << plan.tile.rows << "x" << plan.tile.columns << ", "
       << plan.tile.stages << " stages, grid " << plan.grid << " x " << plan.tile.threads() << ", shared "
       << plan.shared_bytes << ", at most " << plan.max_row_tiles << "x" << plan.column_tiles << " tiles";
  if (plan.converts_x) text << ", x copied to " << info(plan.x_dtype).name << " rows of " << plan.x_pitch;
  return text.str();
}

std::string describe(const LayerPlan& plan) {
  std::ostringstream text;
  text << describe(plan.sort) << "\ngate_up: " << describe(plan.gate_up);
  if (plan.factor.grid > 0) text << "\nfactor: " << describe(plan.factor);
  text << "\ndown: " << describe(plan.down) << "\ninner " << info(plan.inner_dtype).name << " rows of "
       << plan.inner_pitch << ", workspace " << plan.workspace_bytes;
  return text.str();
}

}  // namespace moe::gpu
