// Refuses what the kernels for quantised weights do not represent.
#pragma once

#include "core/formats/weight_view.h"
#include "core/status.h"
#include "cpu/runtime/team.h"

namespace moe::cpu {

// Checks a weight in its own format that becomes a matrix with `columns` columns. Refuses codes and scales that are
// NaN, a scalar that no float32 scale can absorb, and missing columns where no code is zero.
Status check_codes(const Team& team, const WeightView& weight, int64_t columns);

}  // namespace moe::cpu
