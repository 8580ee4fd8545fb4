// Sorting (token, slot) pairs by expert.
#pragma once

#include <cstdint>

#include "core/status.h"

namespace moe::cpu {

// What is known of the rows after sorting; see lib/operators/sort.ts.
struct SortedRows {
  int32_t* offsets;            // [experts + 1]
  int32_t* tokens_per_expert;  // [experts], or null
  int32_t* token_of_row;       // [tokens * top_k]
  int32_t* row_of_slot;        // [tokens * top_k]
};

// A stable counting sort. Ids outside -1 .. experts - 1 count as -1 and are reported; `name` is operator and argument.
Status sort_rows(const int32_t* ids, int64_t tokens, int64_t top_k, int64_t experts, const SortedRows& sorted,
                 const char* name = "sort: ids");

}  // namespace moe::cpu
