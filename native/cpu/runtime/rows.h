// Whole rows: moved by an index map, and added.
#pragma once

#include "core/status.h"
#include "core/tensor_view.h"
#include "cpu/isa/kernels.h"
#include "cpu/runtime/team.h"

namespace moe::cpu {

// Row i of target is the row of source that index i names, or zeros if that is -1. For indices that are neither, see
// check_indices().
Status gather_rows(const Team& team, const char* name, const TensorView& source, const TensorView& indices,
                   char* target);

// Adds a row of `count` values of any float dtype to `sums`. `line` has room for it in float32.
void add_row(const Kernels& kernels, DType dtype, const void* row, int64_t count, float* line, float* sums);

}  // namespace moe::cpu
