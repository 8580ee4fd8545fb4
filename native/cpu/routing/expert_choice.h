// Experts that choose their tokens.
#pragma once

#include "core/operators/capacity.h"
#include "cpu/runtime/context.h"

namespace moe::cpu {

Status expert_choice(Context& context, const ExpertChoice& p);

}  // namespace moe::cpu
