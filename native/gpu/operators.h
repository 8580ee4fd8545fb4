// The operators on a GPU. Each is defined in the file of its kernels. The calling thread already uses the device.
#pragma once

#include "core/operators/list.h"
#include "gpu/runtime/context.h"

namespace moe::MOE_GPU_NAMESPACE {

#define MOE_OPERATOR(Operator) Status run(Context& context, const Operator& p);
MOE_OPERATORS(MOE_OPERATOR)
#undef MOE_OPERATOR

}  // namespace moe::MOE_GPU_NAMESPACE
