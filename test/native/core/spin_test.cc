// When threads that wait may yield, and how long they wait.
#include "core/spin.h"

#include <chrono>

#include "check.h"

using moe::spin_until;
using moe::SpinClock;
using moe::YieldRule;
using std::chrono::microseconds;
using std::chrono::milliseconds;
using Time = SpinClock::time_point;

namespace {

constexpr Time kStart{std::chrono::hours(1)};

}  // namespace

MOE_TEST(short_yields_may_follow_each_other) {
  YieldRule rule;
  MOE_CHECK(rule.allows(kStart));
  rule.yielded(kStart, kStart + microseconds(900));
  MOE_CHECK(rule.allows(kStart + microseconds(900)));
}

MOE_TEST(after_a_long_yield_there_is_none_for_as_long) {
  YieldRule rule;
  rule.yielded(kStart, kStart + milliseconds(4));
  MOE_CHECK(!rule.allows(kStart + microseconds(7999)));
  MOE_CHECK(rule.allows(kStart + milliseconds(8)));
}

MOE_TEST(long_yields_in_a_row_rest_longer_up_to_a_limit) {
  YieldRule rule;
  Time begin = kStart;
  for (const int rest : {1, 2, 4, 8, 16, 32, 64, 64, 64}) {
    const Time end = begin + milliseconds(2);
    rule.yielded(begin, end);
    const Time next = end + rest * milliseconds(2);
    MOE_CHECK(!rule.allows(next - microseconds(1)));
    MOE_CHECK(rule.allows(next));
    begin = next;
  }
  rule.yielded(begin, begin + microseconds(1));
  begin += microseconds(1);
  rule.yielded(begin, begin + milliseconds(2));
  MOE_CHECK(rule.allows(begin + milliseconds(4)));
}

MOE_TEST(spinning_ends_when_it_is_ready_or_gives_up) {
  int looks = 0;
  MOE_CHECK(spin_until([&] { return ++looks == 2; }));
  MOE_CHECK(looks == 2);
  MOE_CHECK(!spin_until([] { return false; }));
}
