// Plans in words.
#include <sstream>

#include "gpu/plan/plan.h"

namespace moe::gpu {

std::string describe(const RouterPlan& plan) {
  std::ostringstream text;
  const RouterTile& tile = kRouterTiles[plan.tile];
  text << "router tile " << tile.block_tokens() << "x" << tile.block_experts() << " (warp " << tile.tokens << "x"
       << tile.experts << "), grid " << plan.grid << ", shared " << plan.shared_bytes;
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

std::string describe(const ColumnPlan& plan) {
  std::ostringstream text;
  text << "columns grid " << plan.grid_rows << "x" << plan.grid_columns << " x " << plan.threads;
  return text.str();
}

}  // namespace moe::gpu
