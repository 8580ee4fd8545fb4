// Random numbers by counter.
#pragma once

#include "core/noise.h"
#include "cpu/context.h"

namespace moe::cpu {

void fill_random(const Context& context, const Random& p);
void jitter_rows(const Context& context, const Jitter& p);

}  // namespace moe::cpu
