#include "cpu/sort.h"

#include <algorithm>
#include <string>

namespace moe::cpu {

Status sort_rows(const int32_t* ids, int64_t tokens, int64_t top_k, int64_t experts, const SortedRows& sorted,
                 const char* name) {
  const int64_t pairs = tokens * top_k;
  Status status;
  int32_t* next = sorted.offsets + 1;  // next[e] becomes the first free row of expert e, and ends as its last + 1
  std::fill(sorted.offsets, sorted.offsets + experts + 1, 0);
  const auto valid = [&](int64_t pair) { return ids[pair] >= 0 && ids[pair] < experts; };
  for (int64_t pair = 0; pair < pairs; ++pair) {
    if (valid(pair)) {
      ++next[ids[pair]];
    } else if (ids[pair] != -1 && status.ok()) {
      status = {Code::id_out_of_range, std::string(name) + "[" + std::to_string(pair / top_k) + ", " +
                                           std::to_string(pair % top_k) + "]: expected -1 or an expert from 0 to " +
                                           std::to_string(experts - 1) + ", got " + std::to_string(ids[pair])};
    }
  }
  if (sorted.tokens_per_expert != nullptr) std::copy(next, next + experts, sorted.tokens_per_expert);
  int32_t row = 0;
  for (int64_t expert = 0; expert < experts; ++expert) {
    const int32_t count = next[expert];
    next[expert] = row;
    row += count;
  }
  for (int64_t pair = 0; pair < pairs; ++pair) {
    sorted.row_of_slot[pair] = -1;
    if (!valid(pair)) continue;
    const int32_t place = next[ids[pair]]++;
    sorted.row_of_slot[pair] = place;
    sorted.token_of_row[place] = static_cast<int32_t>(pair / top_k);
  }
  std::fill(sorted.token_of_row + row, sorted.token_of_row + pairs, -1);
  return status;
}

}  // namespace moe::cpu
