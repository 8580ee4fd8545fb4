#include "core/offload/residency.h"

#include <algorithm>
#include <map>
#include <set>

#include "check.h"
#include "core/offload/schedule.h"
#include "random.h"

namespace {

using moe::OffloadPolicy;
using moe::OffloadRound;
using moe::OffloadSchedule;
using moe::Residency;
using moe::SlotLoad;
using moe::test::Random;

std::vector<int32_t> resident(const Residency& residency) { return residency.stats(1).resident; }

Residency residency_of(int64_t experts, int64_t slots, OffloadPolicy policy, const std::vector<int32_t>& pinned = {}) {
  Residency residency(slots, policy);
  residency.add(0, experts, pinned);
  return residency;
}

// The experts that a plan loads, in order.
std::vector<int32_t> loads(const std::vector<OffloadRound>& rounds) {
  std::vector<int32_t> experts;
  for (const OffloadRound& round : rounds) {
    for (const SlotLoad& load : round.loads) experts.push_back(load.expert);
  }
  return experts;
}

bool equal(const std::vector<int32_t>& a, const std::vector<int32_t>& b) { return a == b; }

std::vector<int32_t> draw_experts(Random& random, int32_t experts) {
  std::vector<int32_t> drawn;
  const int64_t most = random.below(experts + 1);
  for (int32_t expert = 0; expert < experts; ++expert) {
    if (random.below(experts) < most) drawn.push_back(expert);
  }
  return drawn;
}

// Goes through a plan as a device does, slot by slot, and checks all that it relies on.
void check_plan(const std::vector<OffloadRound>& rounds, const std::vector<int32_t>& needed,
                const std::vector<int32_t>& pinned, std::map<int32_t, int32_t>& expert_in) {
  MOE_CHECK(!rounds.empty() && rounds[0].loads.empty());
  std::map<int32_t, int64_t> used;  // the last round that used a slot
  std::vector<int32_t> computed;
  for (size_t index = 0; index < rounds.size(); ++index) {
    const OffloadRound& round = rounds[index];
    const auto now = static_cast<int64_t>(index);
    int64_t after = -1;
    std::set<int32_t> taken;
    for (const SlotLoad& load : round.loads) {
      MOE_CHECK(taken.insert(load.slot).second);
      const auto here = expert_in.find(load.slot);
      MOE_CHECK_EQUAL(load.evicted, here == expert_in.end() ? -1 : here->second);
      MOE_CHECK(std::find(pinned.begin(), pinned.end(), load.evicted) == pinned.end());
      if (used.count(load.slot) > 0) after = std::max(after, used[load.slot]);
      expert_in[load.slot] = load.expert;
    }
    MOE_CHECK_EQUAL(round.after, after);
    MOE_CHECK(round.after < now);
    for (const moe::ResidentExpert& each : round.experts) {
      MOE_CHECK_EQUAL(expert_in[each.slot], each.expert);
      used[each.slot] = now;
      computed.push_back(each.expert);
    }
  }
  std::sort(computed.begin(), computed.end());
  MOE_CHECK(equal(computed, needed));
}

}  // namespace

MOE_TEST(plans_compute_every_expert_once_with_its_matrix_in_place) {
  Random random(1);
  for (int run = 0; run < 400; ++run) {
    const auto experts = static_cast<int32_t>(1 + random.below(24));
    const int64_t slots = 1 + random.below(experts);
    std::vector<int32_t> pinned;
    for (int32_t expert = 0; expert < experts && std::ssize(pinned) + 1 < slots; ++expert) {
      if (random.below(4) == 0) pinned.push_back(expert);
    }
    Residency residency = residency_of(experts, slots, static_cast<OffloadPolicy>(random.below(3)), pinned);
    std::map<int32_t, int32_t> expert_in;
    for (int call = 0; call < 20; ++call) {
      const std::vector<int32_t> needed = draw_experts(random, experts);
      check_plan(residency.plan(needed), needed, pinned, expert_in);
      for (const SlotLoad& load : residency.prefetch(draw_experts(random, experts))) {
        expert_in[load.slot] = load.expert;
      }
      std::vector<int32_t> here;
      for (const auto& [slot, expert] : expert_in) {
        MOE_CHECK(slot >= 0 && slot < slots);
        here.push_back(expert);
      }
      std::sort(here.begin(), here.end());
      MOE_CHECK(equal(resident(residency), here));
    }
    const moe::OffloadCounts counts = residency.stats(1).counts;
    MOE_CHECK_EQUAL(counts.misses + counts.prefetched - counts.evictions, std::ssize(resident(residency)));
  }
}

MOE_TEST(lru_evicts_the_expert_whose_last_use_is_longest_ago) {
  Residency residency = residency_of(6, 2, OffloadPolicy::lru);
  residency.plan({0});
  residency.plan({1});
  residency.plan({0});
  residency.plan({2});
  MOE_CHECK(equal(resident(residency), {0, 2}));
}

MOE_TEST(lfu_evicts_the_expert_of_the_fewest_calls) {
  Residency residency = residency_of(6, 2, OffloadPolicy::lfu);
  residency.plan({0});
  residency.plan({0});
  residency.plan({1});
  residency.plan({2});
  MOE_CHECK(equal(resident(residency), {0, 2}));
  residency.plan({1});
  residency.plan({2});  // 1 and 2 have two uses each now, and 0 too: the lowest goes
  MOE_CHECK(equal(resident(residency), {1, 2}));
}

MOE_TEST(lfru_keeps_frequent_experts_but_forgets_old_uses) {
  Residency residency = residency_of(4, 2, OffloadPolicy::lfru);
  for (int i = 0; i < 50; ++i) residency.plan({0});
  residency.plan({1});
  residency.plan({2});  // LRU would evict 0
  MOE_CHECK(equal(resident(residency), {0, 2}));
  // LFU would keep 0 until others have 50 uses. Half-lives pass meanwhile, also those after which scores are rescaled.
  for (int i = 0; i < 200; ++i) residency.plan({1});
  for (int i = 0; i < 60; ++i) residency.plan({2});
  residency.plan({3});
  MOE_CHECK(!equal(resident(residency), {0, 3}));
  for (int i = 0; i < 40'000; ++i) residency.plan({static_cast<int32_t>(i % 2)});
  MOE_CHECK(equal(resident(residency), {0, 1}));
  for (int i = 0; i < 200; ++i) residency.plan({3});
  residency.plan({0});
  MOE_CHECK(equal(resident(residency), {0, 3}));
}

MOE_TEST(pinned_experts_stay) {
  Residency residency = residency_of(8, 3, OffloadPolicy::lru, {5, 6});
  MOE_CHECK_EQUAL(std::ssize(residency.prefetch({5, 6})), 2);
  residency.plan({0, 1, 2, 3, 4});
  MOE_CHECK(equal(resident(residency), {4, 5, 6}));
  residency.plan({5, 7});
  MOE_CHECK(equal(resident(residency), {5, 6, 7}));
}

MOE_TEST(prefetched_experts_are_hits_and_never_evict_one_another) {
  Residency residency = residency_of(8, 3, OffloadPolicy::lfru);
  MOE_CHECK_EQUAL(std::ssize(residency.prefetch({7, 6, 7, 5, 4})), 3);
  MOE_CHECK(equal(resident(residency), {5, 6, 7}));
  MOE_CHECK(loads(residency.plan({5, 6, 7})).empty());
  const moe::OffloadCounts counts = residency.stats(1).counts;
  MOE_CHECK_EQUAL(counts.hits, 3);
  MOE_CHECK_EQUAL(counts.prefetched, 3);
  MOE_CHECK_EQUAL(counts.evictions, 0);
}

MOE_TEST(every_expert_has_its_own_slot_where_there_are_enough) {
  Residency residency = residency_of(4, 4, OffloadPolicy::lru);
  MOE_CHECK(residency.holds_all());
  for (const OffloadRound& round : residency.plan({1, 3})) {
    for (const moe::ResidentExpert& each : round.experts) MOE_CHECK_EQUAL(each.slot, each.expert);
  }
  for (const SlotLoad& load : residency.prefetch({2})) MOE_CHECK_EQUAL(load.slot, 2);
}

MOE_TEST(experts_join_and_leave) {
  Residency residency = residency_of(4, 2, OffloadPolicy::lfru);
  for (int i = 0; i < 100; ++i) residency.plan({0});
  residency.add(4, 4);
  // Uses before and after weigh alike: 0 stays, though a half-life now is as many uses of twice the experts.
  residency.plan({5});
  residency.plan({6});
  MOE_CHECK(equal(resident(residency), {0, 6}));
  residency.remove(0, 4);
  MOE_CHECK(equal(resident(residency), {6}));
  MOE_CHECK_EQUAL(residency.end(), 8);
  MOE_CHECK_EQUAL(residency.prefetch({7})[0].evicted, -1);
  residency.add(0, 2);
  residency.remove(4, 4);
  MOE_CHECK_EQUAL(residency.end(), 2);
  MOE_CHECK(resident(residency).empty());
  MOE_CHECK(residency.holds_all());
  // Nothing is left of the experts that had these numbers before.
  const std::vector<OffloadRound> rounds = residency.plan({0, 1});
  for (const moe::ResidentExpert& each : rounds[1].experts) MOE_CHECK_EQUAL(each.slot, each.expert);
}

MOE_TEST(experts_keep_their_slots_when_others_leave_and_all_fit) {
  Residency residency = residency_of(4, 2, OffloadPolicy::lru);
  residency.plan({1});  // takes slot 0
  residency.remove(2, 2);
  MOE_CHECK(residency.holds_all());
  const std::vector<OffloadRound> rounds = residency.plan({0, 1});
  MOE_CHECK_EQUAL(rounds[0].experts[0].slot, 0);
  MOE_CHECK_EQUAL(rounds[1].experts[0].slot, 1);
  MOE_CHECK_EQUAL(residency.counts().evictions, 0);
}

MOE_TEST(loads_overlap_the_round_before_where_experts_stream_through_slots) {
  Residency residency = residency_of(16, 4, OffloadPolicy::lru);
  std::vector<int32_t> all(16);
  for (int32_t i = 0; i < 16; ++i) all[i] = i;
  const std::vector<OffloadRound> rounds = residency.plan(all);
  MOE_CHECK_EQUAL(std::ssize(rounds), 9);
  for (size_t round = 1; round < rounds.size(); ++round) {
    MOE_CHECK_EQUAL(std::ssize(rounds[round].loads), 2);
    MOE_CHECK(rounds[round].after <= static_cast<int64_t>(round) - 2);
  }
}

MOE_TEST(schedules_issue_loads_early_but_not_before_the_rounds_they_wait_for) {
  Random random(2);
  for (int run = 0; run < 100; ++run) {
    const auto experts = static_cast<int32_t>(1 + random.below(16));
    Residency residency = residency_of(experts, 1 + random.below(experts), OffloadPolicy::lfru);
    for (int call = 0; call < 5; ++call) {
      const std::vector<OffloadRound> rounds = residency.plan(draw_experts(random, experts));
      constexpr int64_t kProducts = 3;
      OffloadSchedule schedule(rounds, kProducts);
      std::set<std::pair<int64_t, int64_t>> loaded, computed;
      const auto load = [&](int64_t product, int64_t round) {
        const int64_t after = rounds[round].after;
        MOE_CHECK(after < 0 || computed.count({product, after}) == 1);
        MOE_CHECK(loaded.insert({product, round}).second);
        return moe::Status();
      };
      MOE_CHECK(schedule.issue(load).ok());
      // All that need not wait is on its way before anything is computed.
      const bool fits = std::all_of(rounds.begin(), rounds.end(), [](const OffloadRound& r) { return r.after < 0; });
      const auto with_loads =
          std::count_if(rounds.begin(), rounds.end(), [](const auto& r) { return !r.loads.empty(); });
      if (fits) MOE_CHECK_EQUAL(std::ssize(loaded), with_loads * kProducts);
      for (int64_t product = 0; product < kProducts; ++product) {
        MOE_CHECK(schedule
                      .run(load,
                           [&](int64_t round) {
                             MOE_CHECK(rounds[round].loads.empty() || loaded.count({product, round}) == 1);
                             MOE_CHECK(computed.insert({product, round}).second);
                             return moe::Status();
                           })
                      .ok());
      }
      MOE_CHECK_EQUAL(std::ssize(computed), kProducts * std::ssize(rounds));
      MOE_CHECK_EQUAL(std::ssize(loaded), kProducts * with_loads);
    }
  }
}
