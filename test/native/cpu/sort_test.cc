#include "cpu/routing/sort.h"

#include <vector>

#include "check.h"

namespace {

using moe::Code;
using moe::Status;
using moe::cpu::sort_rows;
using moe::cpu::SortedRows;

// The results of a sort, all set to a value that it never writes.
struct Results {
  std::vector<int32_t> offsets, counts, tokens, rows;

  Results(size_t experts, size_t slots)
      : offsets(experts + 1, 99), counts(experts, 99), tokens(slots, 99), rows(slots, 99) {}
  SortedRows view() {
    return {.offsets = offsets.data(),
            .tokens_per_expert = counts.data(),
            .token_of_row = tokens.data(),
            .row_of_slot = rows.data()};
  }
};

}  // namespace

MOE_TEST(sorting_is_stable_and_leaves_out_what_is_no_expert) {
  const int32_t none = -1;
  const std::vector<int32_t> ids = {2, 0, none, 2, 0, 7, 2, none};
  Results sorted(3, 8);
  const Status status =
      sort_rows({.name = "sort: ids", .ids = ids.data(), .tokens = 4, .top_k = 2, .experts = 3}, sorted.view());
  MOE_CHECK(status.code == Code::id_out_of_range);
  MOE_CHECK_EQUAL(status.message, "sort: ids[2, 1]: expected -1 or an expert from 0 to 2, got 7");
  MOE_CHECK(sorted.offsets == (std::vector<int32_t>{0, 2, 2, 5}));
  MOE_CHECK(sorted.counts == (std::vector<int32_t>{2, 0, 3}));
  MOE_CHECK(sorted.tokens == (std::vector<int32_t>{0, 2, 0, 1, 3, -1, -1, -1}));
  MOE_CHECK(sorted.rows == (std::vector<int32_t>{2, 0, -1, 3, 1, -1, 4, -1}));
}

MOE_TEST(without_experts_no_id_but_none_is_valid) {
  const std::vector<int32_t> ids = {-1, 0};
  Results sorted(0, 2);
  const Status status =
      sort_rows({.name = "sort: ids", .ids = ids.data(), .tokens = 2, .top_k = 1, .experts = 0}, sorted.view());
  MOE_CHECK_EQUAL(status.message, "sort: ids[1, 0]: expected -1, the only valid value, got 0");
  MOE_CHECK(sorted.tokens == (std::vector<int32_t>{-1, -1}));
}

MOE_TEST(shared_experts_take_every_token_in_slots_after_the_chosen) {
  const std::vector<int32_t> ids = {1, -1, 3};
  Results sorted(5, 9);
  const Status status = sort_rows(
      {.name = "sort: ids", .ids = ids.data(), .tokens = 3, .top_k = 1, .experts = 3, .shared = 2, .first_token = 100},
      sorted.view());
  MOE_CHECK_EQUAL(status.message, "sort: ids[102, 0]: expected -1 or an expert from 0 to 2, got 3");
  MOE_CHECK(sorted.offsets == (std::vector<int32_t>{0, 0, 1, 1, 4, 7}));
  MOE_CHECK(sorted.counts == (std::vector<int32_t>{0, 1, 0, 3, 3}));
  MOE_CHECK(sorted.tokens == (std::vector<int32_t>{0, 0, 1, 2, 0, 1, 2, -1, -1}));
  MOE_CHECK(sorted.rows == (std::vector<int32_t>{0, 1, 4, -1, 2, 5, -1, 3, 6}));
}

MOE_TEST(a_bank_takes_choices_of_its_own_experts_alone_and_ids_out_of_range_are_still_errors) {
  const std::vector<int32_t> ids = {1, 0, 2, 4};
  Results sorted(3, 6);
  const Status status = sort_rows({.name = "forward: ids",
                                   .ids = ids.data(),
                                   .tokens = 2,
                                   .top_k = 2,
                                   .experts = 4,
                                   .shared = 1,
                                   .bank_first = 1,
                                   .bank_count = 2},
                                  sorted.view());
  MOE_CHECK_EQUAL(status.message, "forward: ids[1, 1]: expected -1 or an expert from 0 to 3, got 4");
  MOE_CHECK(sorted.offsets == (std::vector<int32_t>{0, 1, 2, 4}));
  MOE_CHECK(sorted.counts == (std::vector<int32_t>{1, 1, 2}));
  MOE_CHECK(sorted.tokens == (std::vector<int32_t>{0, 1, 0, 1, -1, -1}));
  MOE_CHECK(sorted.rows == (std::vector<int32_t>{0, -1, 2, 1, -1, 3}));
}
