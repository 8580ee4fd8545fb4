// Random numbers by counter.
#pragma once

#include "core/operators/noise.h"
#include "cpu/runtime/context.h"

namespace moe::cpu {

void fill_random(const Context& context, const Random& p);
void jitter_rows(const Context& context, const Jitter& p);

}  // namespace moe::cpu
