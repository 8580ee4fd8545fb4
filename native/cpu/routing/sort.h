// Sorting slots by expert.
#pragma once

#include <cstdint>

#include "core/status.h"

namespace moe::cpu {

// Every token's experts.
struct ChosenExperts {
  const char* name;    // operator and argument, for messages
  const int32_t* ids;  // [tokens, top_k]
  int64_t tokens;
  int64_t top_k;
  int64_t experts;  // upper bound of ids
  // Additional experts after the others. Each takes every token, in a slot after its top_k.
  int64_t shared = 0;
  // The first token's index within the call, for messages.
  int64_t first_token = 0;
  // The experts that get rows, numbered from the first of them; choices of others count as -1. count -1: all experts.
  int64_t bank_first = 0;
  int64_t bank_count = -1;

  int64_t slots() const { return top_k + shared; }
  int64_t held() const { return bank_count < 0 ? experts : bank_count; }
};

// The result of sorting; see lib/operators/routing/sort.ts.
struct SortedRows {
  int32_t* offsets;            // [held + shared + 1]
  int32_t* tokens_per_expert;  // [held + shared], or null
  int32_t* token_of_row;       // [tokens * slots]
  int32_t* row_of_slot;        // [tokens * slots]
};

// A stable counting sort. Ids outside -1 .. experts - 1 count as -1 and are reported.
Status sort_rows(const ChosenExperts& chosen, const SortedRows& sorted);

}  // namespace moe::cpu
