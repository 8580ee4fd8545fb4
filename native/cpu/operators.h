// The operators on the CPU. Each is defined in the file of its kernels.
#pragma once

#include "core/operators/list.h"
#include "cpu/runtime/context.h"

namespace moe::cpu {

#define MOE_OPERATOR(Operator) Status run(Context& context, const Operator& p);
MOE_OPERATORS(MOE_OPERATOR)
#undef MOE_OPERATOR

}  // namespace moe::cpu
