#include "cpu/routing/sort.h"

#include <vector>

#include "check.h"

namespace {

using moe::Code;
using moe::Status;
using moe::cpu::sort_rows;

}  // namespace

MOE_TEST(sorting_is_stable_and_leaves_out_what_is_no_expert) {
  const int32_t none = -1;
  const std::vector<int32_t> ids = {2, 0, none, 2, 0, 7, 2, none};
  std::vector<int32_t> offsets(4, 99), counts(3, 99), tokens(8, 99), rows(8, 99);
  const Status status =
      sort_rows({"sort: ids", ids.data(), 4, 2, 3}, {offsets.data(), counts.data(), tokens.data(), rows.data()});
  MOE_CHECK(status.code == Code::id_out_of_range);
  MOE_CHECK_EQUAL(status.message, "sort: ids[2, 1]: expected -1 or an expert from 0 to 2, got 7");
  MOE_CHECK(offsets == (std::vector<int32_t>{0, 2, 2, 5}));
  MOE_CHECK(counts == (std::vector<int32_t>{2, 0, 3}));
  MOE_CHECK(tokens == (std::vector<int32_t>{0, 2, 0, 1, 3, -1, -1, -1}));
  MOE_CHECK(rows == (std::vector<int32_t>{2, 0, -1, 3, 1, -1, 4, -1}));
}

MOE_TEST(shared_experts_take_every_token_in_slots_behind_the_chosen) {
  const std::vector<int32_t> ids = {1, -1, 3};
  std::vector<int32_t> offsets(6, 99), counts(5, 99), tokens(9, 99), rows(9, 99);
  const Status status = sort_rows({"sort: ids", ids.data(), 3, 1, 3, 2, 100},
                                  {offsets.data(), counts.data(), tokens.data(), rows.data()});
  MOE_CHECK_EQUAL(status.message, "sort: ids[102, 0]: expected -1 or an expert from 0 to 2, got 3");
  MOE_CHECK(offsets == (std::vector<int32_t>{0, 0, 1, 1, 4, 7}));
  MOE_CHECK(counts == (std::vector<int32_t>{0, 1, 0, 3, 3}));
  MOE_CHECK(tokens == (std::vector<int32_t>{0, 0, 1, 2, 0, 1, 2, -1, -1}));
  MOE_CHECK(rows == (std::vector<int32_t>{0, 1, 4, -1, 2, 5, -1, 3, 6}));
}

MOE_TEST(a_bank_takes_choices_of_its_own_experts_alone_and_ids_out_of_range_are_still_errors) {
  const std::vector<int32_t> ids = {1, 0, 2, 4};
  std::vector<int32_t> offsets(4, 99), counts(3, 99), tokens(6, 99), rows(6, 99);
  const Status status = sort_rows({.name = "forward: ids",
                                   .ids = ids.data(),
                                   .tokens = 2,
                                   .top_k = 2,
                                   .experts = 4,
                                   .shared = 1,
                                   .bank_first = 1,
                                   .bank_count = 2},
                                  {offsets.data(), counts.data(), tokens.data(), rows.data()});
  MOE_CHECK_EQUAL(status.message, "forward: ids[1, 1]: expected -1 or an expert from 0 to 3, got 4");
  MOE_CHECK(offsets == (std::vector<int32_t>{0, 1, 2, 4}));
  MOE_CHECK(counts == (std::vector<int32_t>{1, 1, 2}));
  MOE_CHECK(tokens == (std::vector<int32_t>{0, 1, 0, 1, -1, -1}));
  MOE_CHECK(rows == (std::vector<int32_t>{0, -1, 2, 1, -1, 3}));
}
