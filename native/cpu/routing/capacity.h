// Operators that limit what experts take.
#pragma once

#include "core/operators/capacity.h"
#include "cpu/runtime/context.h"

namespace moe::cpu {

Status limit_capacity(Context& context, const LimitCapacity& p);
Status expert_slots(Context& context, const ExpertSlots& p);

}  // namespace moe::cpu
