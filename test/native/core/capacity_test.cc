#include "core/operators/capacity.h"

#include <cmath>
#include <vector>

#include "check.h"

namespace {

using moe::descending_order;
using moe::Drop;
using moe::ServingOrder;

}  // namespace

MOE_TEST(larger_values_have_lower_numbers_and_nan_the_highest) {
  const std::vector<float> descending = {INFINITY, 3e38f, 1.0f, 1e-40f, 0.0f, -1e-40f, -1.0f, -3e38f, -INFINITY, NAN};
  for (size_t i = 1; i < descending.size(); ++i) {
    MOE_CHECK(descending_order(descending[i - 1]) < descending_order(descending[i]));
  }
  MOE_CHECK_EQUAL(descending_order(0.0f), descending_order(-0.0f));
  MOE_CHECK_EQUAL(descending_order(NAN), descending_order(-NAN));
}

MOE_TEST(choices_are_served_in_the_order_of_their_rule) {
  const uint32_t large = descending_order(0.9f), small = descending_order(0.1f);
  const ServingOrder position{Drop::position, 100, 4};
  MOE_CHECK(position.number(99, 0, small, small) < position.number(0, 1, large, large));
  MOE_CHECK(position.number(3, 1, small, small) < position.number(4, 1, large, large));
  const ServingOrder prioritized{Drop::prioritized, 100, 4};
  MOE_CHECK(prioritized.number(99, 0, small, small) < prioritized.number(0, 1, large, large));
  MOE_CHECK(prioritized.number(99, 1, small, large) < prioritized.number(0, 1, large, small));
  MOE_CHECK(prioritized.number(3, 1, small, large) < prioritized.number(4, 1, small, large));
  const ServingOrder probability{Drop::probability, 100, 4};
  MOE_CHECK(probability.number(99, 3, large, large) < probability.number(0, 0, small, large));
  MOE_CHECK(probability.number(3, 3, small, small) < probability.number(4, 0, small, large));
  MOE_CHECK(probability.number(3, 1, small, large) < probability.number(3, 2, small, large));
}

MOE_TEST(numbers_fit_their_bits) {
  for (const Drop drop : {Drop::position, Drop::prioritized, Drop::probability}) {
    for (const int64_t tokens : {int64_t{1}, int64_t{1000}, (int64_t{1} << 31) / 8 - 1}) {
      const ServingOrder order{drop, tokens, 8};
      const uint64_t last = order.number(tokens - 1, 7, UINT32_MAX, UINT32_MAX);
      MOE_CHECK(order.bits() <= 63);
      MOE_CHECK_EQUAL(last >> order.bits(), uint64_t{0});
    }
  }
}
