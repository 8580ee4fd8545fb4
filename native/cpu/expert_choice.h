// Experts that choose their tokens.
#pragma once

#include "core/capacity.h"
#include "cpu/context.h"

namespace moe::cpu {

Status expert_choice(Context& context, const ExpertChoice& p);

}  // namespace moe::cpu
