// Moves whole rows by an index map.
#pragma once

#include "core/status.h"
#include "core/tensor_view.h"
#include "cpu/runtime/team.h"

namespace moe::cpu {

// Row i of target is row indices[i] of source, or zeros if that is -1. For indices that are neither, see
// check_indices().
Status gather_rows(const Team& team, const char* name, const TensorView& source, const int32_t* indices, int64_t count,
                   char* target);

}  // namespace moe::cpu
