// A gate over groups of experts, then one within each chosen group.
#pragma once

#include "cpu/runtime/context.h"

namespace moe::cpu {

Status hierarchical_gating(Context& context, const HierarchicalGating& p);

}  // namespace moe::cpu
