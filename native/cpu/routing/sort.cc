#include "cpu/routing/sort.h"

#include <algorithm>

#include "core/operators/shared_slots.h"
#include "cpu/operators.h"
#include "cpu/runtime/indices.h"

namespace moe::cpu {

Status sort_rows(const ChosenExperts& c, const SortedRows& sorted) {
  const int64_t slots = c.tokens * c.top_k;
  const int64_t held = c.held();
  const int64_t all_experts = held + c.shared;
  Status status;
  int32_t* next = sorted.offsets + 1;  // next[e] becomes the first free row of expert e, and ends as its last + 1
  std::fill(sorted.offsets, sorted.offsets + all_experts + 1, 0);
  // The expert's number within the bank, or -1.
  const auto expert_of = [&](int32_t id) { return place_in_bank(id, c.bank_first, held); };
  for (int64_t slot = 0; slot < slots; ++slot) {
    const int32_t id = c.ids[slot];
    if (const int32_t expert = expert_of(id); expert >= 0) {
      ++next[expert];
    } else if ((id < -1 || id >= c.experts) && status.ok()) {
      status = id_out_of_range(c.name, c.first_token + slot / c.top_k, slot % c.top_k, "an expert", c.experts, id);
    }
  }
  std::fill(next + held, next + all_experts, static_cast<int32_t>(c.tokens));
  if (sorted.tokens_per_expert != nullptr) std::copy(next, next + all_experts, sorted.tokens_per_expert);
  int32_t row = 0;
  for (int64_t expert = 0; expert < all_experts; ++expert) {
    const int32_t count = next[expert];
    next[expert] = row;
    row += count;
  }
  int32_t* row_of_slot = sorted.row_of_slot;
  for (int64_t token = 0; token < c.tokens; ++token) {
    const auto place = [&](int64_t expert) {
      const int32_t place = next[expert]++;
      sorted.token_of_row[place] = static_cast<int32_t>(token);
      *row_of_slot++ = place;
    };
    for (int64_t j = 0; j < c.top_k; ++j) {
      const int32_t expert = expert_of(c.ids[token * c.top_k + j]);
      if (expert >= 0) {
        place(expert);
      } else {
        *row_of_slot++ = -1;
      }
    }
    for (int64_t j = 0; j < c.shared; ++j) place(held + j);
  }
  std::fill(sorted.token_of_row + row, sorted.token_of_row + c.tokens * c.slots(), -1);
  return status;
}

Status run(Context&, const Sort& p) {
  const int64_t top_k = std::max<int64_t>(1, p.ids.shape[1]);
  return sort_rows({.name = "sort: ids",
                    .ids = p.ids.as<const int32_t>(),
                    .tokens = p.tokens(),
                    .top_k = top_k,
                    .experts = p.tokens_per_expert.shape[0]},
                   {.offsets = p.offsets.as<int32_t>(),
                    .tokens_per_expert = p.tokens_per_expert.as<int32_t>(),
                    .token_of_row = p.token_of_row.as<int32_t>(),
                    .row_of_slot = p.row_of_slot.as<int32_t>()});
}

}  // namespace moe::cpu
