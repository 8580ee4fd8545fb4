#include <algorithm>
#include <map>
#include <memory>
#include <set>

#include "check.h"
#include "core/offload/budget.h"
#include "random.h"

namespace {

using moe::BudgetOptions;
using moe::OffloadBudget;
using moe::OffloadOptions;
using moe::OffloadPolicy;
using moe::OffloadRound;
using moe::OffloadShare;
using moe::SlotLoad;
using moe::Status;
using moe::test::Random;

// Counts how its memory is taken.
class CountingBudget final : public OffloadBudget {
 public:
  using OffloadBudget::OffloadBudget;
  int64_t slots = 0;
  bool full = false;

 private:
  Status reserve(const std::vector<int64_t>&, int64_t count) override {
    if (full) return {moe::Code::out_of_memory, "full"};
    slots = count;
    return {};
  }
  void release() noexcept override { slots = 0; }
};

using Share = std::unique_ptr<OffloadShare>;

Status join(const std::shared_ptr<OffloadBudget>& budget, int64_t experts, Share* share,
            std::vector<int32_t> pinned = {}, std::vector<int64_t> bytes = {60, 40}, OffloadShare::Drop drop = {}) {
  const OffloadOptions options{.budget = budget, .own = {}, .pinned = std::move(pinned)};
  return OffloadShare::join(budget, experts, std::move(bytes), options, std::move(drop), share);
}

std::shared_ptr<CountingBudget> budget_of(const BudgetOptions& options) {
  return std::make_shared<CountingBudget>(options);
}

BudgetOptions slots(int64_t count, OffloadPolicy policy = OffloadPolicy::lru) {
  return {.slots = count, .bytes = 0, .policy = policy};
}

int64_t resident_count(const std::vector<Share>& shares) {
  int64_t count = 0;
  for (const Share& share : shares) count += share == nullptr ? 0 : std::ssize(share->stats().resident);
  return count;
}

}  // namespace

MOE_TEST(a_budget_takes_memory_with_its_first_layer_and_gives_it_back_with_the_last) {
  const auto budget = budget_of({.slots = 0, .bytes = 350, .policy = OffloadPolicy::lru});
  MOE_CHECK_EQUAL(budget->bytes(), 0);
  Share first, second;
  MOE_CHECK(join(budget, 8, &first).ok());
  MOE_CHECK_EQUAL(budget->slots, 3);
  MOE_CHECK_EQUAL(budget->bytes(), 300);
  MOE_CHECK(join(budget, 2, &second).ok());
  MOE_CHECK_EQUAL(first->slots(), 3);
  MOE_CHECK_EQUAL(second->slots(), 2);
  first.reset();
  MOE_CHECK_EQUAL(budget->slots, 3);
  second.reset();
  MOE_CHECK_EQUAL(budget->slots, 0);
  MOE_CHECK_EQUAL(budget->bytes(), 0);
  // Then layers of another size may have it.
  MOE_CHECK(join(budget, 8, &first, {}, {10}).ok());
  MOE_CHECK_EQUAL(budget->slots, 35);
}

MOE_TEST(an_own_budget_has_no_more_slots_than_its_layer_has_experts) {
  for (const BudgetOptions& options : {slots(100), BudgetOptions{.slots = 0, .bytes = 100'000, .policy = {}}}) {
    const auto budget = budget_of(options);
    Share share;
    MOE_CHECK(
        OffloadShare::join(budget, 8, {60, 40}, {.budget = nullptr, .own = options, .pinned = {}}, {}, &share).ok());
    MOE_CHECK_EQUAL(budget->slots, 8);
  }
}

MOE_TEST(joining_says_what_does_not_fit) {
  Share share, other;
  auto budget = budget_of({.slots = 0, .bytes = 99, .policy = OffloadPolicy::lru});
  MOE_CHECK_EQUAL(join(budget, 8, &share).message,
                  "offload.budget: expected at least 100, the bytes of one expert, got 99");
  const OffloadOptions own{.budget = nullptr, .own = {.slots = 0, .bytes = 99, .policy = {}}, .pinned = {}};
  MOE_CHECK_EQUAL(OffloadShare::join(budget, 8, {100}, own, {}, &share).message,
                  "offload.bytes: expected at least 100, the bytes of one expert, got 99");
  budget = budget_of(slots(2));
  MOE_CHECK_EQUAL(join(budget, 8, &share, {0, 1}).message,
                  "offload.pinned: expected fewer experts than the 2 slots, got 2");
  MOE_CHECK_EQUAL(budget->slots, 0);
  // All of a layer may be pinned while it is alone.
  MOE_CHECK(join(budget, 2, &share, {0, 1}).ok());
  MOE_CHECK_EQUAL(join(budget, 1, &other).message,
                  "offload.pinned: expected fewer experts than the 2 slots, got 2 of all the budget's layers");
  MOE_CHECK_EQUAL(join(budget, 1, &other, {}, {100}).message,
                  "offload.budget: expected experts of 60 + 40 bytes as the budget's other layers have, got 100 bytes: "
                  "give this layer another budget");
  budget = budget_of(slots(INT64_MAX));
  MOE_CHECK(join(budget, 8, &share).code == moe::Code::out_of_memory);
  budget = budget_of(slots(2));
  budget->full = true;
  MOE_CHECK_EQUAL(join(budget, 8, &share).message, "full");
  budget->full = false;
  MOE_CHECK(join(budget, 8, &share).ok());
  share.reset();
}

MOE_TEST(a_capture_holds_all_experts_and_keeps_others_from_joining) {
  const auto budget = budget_of(slots(6));
  Share first, second, third;
  MOE_CHECK(join(budget, 4, &first).ok());
  std::shared_ptr<void> held;
  MOE_CHECK(first->hold(&held).ok());
  MOE_CHECK(join(budget, 2, &second).ok());
  MOE_CHECK_EQUAL(join(budget, 1, &third).message,
                  "offload.budget: expected a layer whose experts have slots of their own while there is a captured "
                  "forward of another, got 1 expert where 0 slots are left: dispose of the captured forwards first");
  MOE_CHECK(second->hold(&held).ok());
  first.reset();
  MOE_CHECK(join(budget, 4, &first).ok());
  MOE_CHECK_EQUAL(first->first(), 0);
  held.reset();
  MOE_CHECK(join(budget, 1, &third).ok());
  MOE_CHECK_EQUAL(second->hold(&held).message,
                  "capture: expected a layer whose experts are all resident, got one with offload and 6 slots for 7 "
                  "experts of 3 layers: give it a slot for every expert");
  // What was loaded when there were more experts than slots is loaded again, to where it then stays.
  second->plan({0, 1});
  third.reset();
  MOE_CHECK(second->hold(&held).ok());
  const std::vector<SlotLoad> loads = second->prefetch({0, 1});
  MOE_CHECK_EQUAL(std::ssize(loads), 2);
  for (const SlotLoad& load : loads) {
    MOE_CHECK_EQUAL(load.slot, second->first() + load.expert);
    MOE_CHECK_EQUAL(load.evicted, -1);
  }
}

MOE_TEST(a_capture_needs_as_many_slots_as_there_are_experts_whatever_layers_have_left) {
  const auto budget = budget_of(slots(6));
  Share old, first, second;
  MOE_CHECK(join(budget, 4, &old).ok());
  MOE_CHECK(join(budget, 2, &first).ok());
  std::set<int32_t> dropped;
  const auto drop = [&](int32_t expert) { dropped.insert(expert); };
  MOE_CHECK(join(budget, 4, &second, {}, {60, 40}, drop).ok());  // as of a layer whose work is not done yet
  second->plan({1, 2});
  old.reset();
  MOE_CHECK_EQUAL(second->first(), 6);
  std::shared_ptr<void> held, other;
  MOE_CHECK(second->hold(&held).ok());
  MOE_CHECK_EQUAL(first->first(), 0);
  MOE_CHECK_EQUAL(second->first(), 2);
  // What is in another slot than its own is loaded again.
  const std::vector<int32_t> resident = second->stats().resident;
  MOE_CHECK_EQUAL(resident.size() + dropped.size(), size_t{2});
  const std::vector<SlotLoad> loads = second->prefetch({0, 1, 2, 3});
  MOE_CHECK_EQUAL(loads.size() + resident.size(), size_t{4});
  for (const SlotLoad& load : loads) {
    MOE_CHECK_EQUAL(load.slot, second->first() + load.expert);
    MOE_CHECK_EQUAL(load.evicted, -1);
  }
  // Under a capture they keep their numbers, even where another layer leaves.
  first.reset();
  MOE_CHECK(second->hold(&other).ok());
  MOE_CHECK_EQUAL(second->first(), 2);
}

MOE_TEST(layers_share_slots_whoever_joins_and_leaves) {
  Random random(3);
  for (int run = 0; run < 200; ++run) {
    const int64_t limit = 1 + random.below(12);
    const auto budget = budget_of(slots(limit, static_cast<OffloadPolicy>(random.below(3))));
    std::vector<Share> shares(4);
    std::vector<int32_t> counts(shares.size());
    // Who is in each slot, as a device would know it; and whose memory each layer was told to give back.
    std::map<int32_t, std::pair<size_t, int32_t>> in_slot;
    std::set<std::pair<size_t, int32_t>> memory;
    const auto apply = [&](size_t layer, const std::vector<SlotLoad>& loads) {
      for (const SlotLoad& load : loads) {
        MOE_CHECK(load.slot >= 0 && load.slot < limit);
        MOE_CHECK(load.expert >= 0 && load.expert < counts[layer]);
        if (load.evicted >= 0) MOE_CHECK_EQUAL(memory.erase({layer, load.evicted}), size_t{1});
        in_slot[load.slot] = {layer, load.expert};
        MOE_CHECK(memory.insert({layer, load.expert}).second);
      }
    };
    for (int step = 0; step < 60; ++step) {
      const size_t layer = static_cast<size_t>(random.below(std::ssize(shares)));
      if (shares[layer] == nullptr) {
        counts[layer] = static_cast<int32_t>(1 + random.below(8));
        const auto drop = [&, layer](int32_t expert) { memory.erase({layer, expert}); };
        MOE_CHECK(join(budget, counts[layer], &shares[layer], {}, {60, 40}, drop).ok());
      } else if (random.below(6) == 0) {
        shares[layer].reset();
        std::erase_if(memory, [&](const auto& each) { return each.first == layer; });
      } else if (random.below(12) == 0) {
        shares[layer]->forget_all();
        MOE_CHECK(memory.empty());
      } else if (random.below(8) == 0) {
        int64_t experts = 0;
        for (size_t i = 0; i < shares.size(); ++i) experts += shares[i] == nullptr ? 0 : counts[i];
        std::shared_ptr<void> held;
        MOE_CHECK_EQUAL(shares[layer]->hold(&held).ok(), experts <= limit);
      } else {
        std::vector<int32_t> needed;
        for (int32_t expert = 0; expert < counts[layer]; ++expert) {
          if (random.below(3) > 0) needed.push_back(expert);
        }
        if (random.below(4) == 0) {
          apply(layer, shares[layer]->prefetch(needed));
        } else {
          std::vector<int32_t> computed;
          for (const OffloadRound& round : shares[layer]->plan(needed)) {
            apply(layer, round.loads);
            for (const moe::ResidentExpert& each : round.experts) {
              MOE_CHECK(in_slot[each.slot] == std::pair(layer, each.expert));
              computed.push_back(each.expert);
            }
          }
          std::sort(computed.begin(), computed.end());
          MOE_CHECK(computed == needed);
        }
      }
      // Exactly the memory of the resident experts is taken, of no more than there are slots.
      MOE_CHECK(std::ssize(memory) <= limit);
      MOE_CHECK_EQUAL(resident_count(shares), std::ssize(memory));
      MOE_CHECK_EQUAL(budget->stats().resident, std::ssize(memory));
      for (size_t i = 0; i < shares.size(); ++i) {
        if (shares[i] == nullptr) continue;
        for (const int32_t expert : shares[i]->stats().resident) MOE_CHECK_EQUAL(memory.count({i, expert}), size_t{1});
      }
    }
  }
}

MOE_TEST(the_counts_of_a_budget_are_the_sums_of_its_layers) {
  const auto budget = budget_of(slots(2));
  Share first, second;
  MOE_CHECK(join(budget, 4, &first).ok());
  MOE_CHECK(join(budget, 4, &second).ok());
  first->plan({0, 1});
  second->plan({3});
  first->plan({1});
  second->prefetch({2});
  MOE_CHECK_EQUAL(first->stats().counts.hits, 1);
  MOE_CHECK_EQUAL(first->stats().counts.misses, 2);
  MOE_CHECK_EQUAL(first->stats().counts.evictions, 1);
  MOE_CHECK_EQUAL(second->stats().counts.evictions, 1);
  MOE_CHECK_EQUAL(second->stats().loaded_bytes, 200);
  MOE_CHECK_EQUAL(budget->stats().layers, 2);
  first.reset();
  const moe::BudgetStats stats = budget->stats();
  MOE_CHECK_EQUAL(stats.counts.calls, 3);
  MOE_CHECK_EQUAL(stats.counts.hits, 1);
  MOE_CHECK_EQUAL(stats.counts.misses, 3);
  MOE_CHECK_EQUAL(stats.counts.prefetched, 1);
  MOE_CHECK_EQUAL(stats.counts.evictions, 2);
  MOE_CHECK_EQUAL(stats.loaded_bytes, 400);
  MOE_CHECK_EQUAL(stats.layers, 1);
  MOE_CHECK_EQUAL(stats.resident, 1);
}

MOE_TEST(experts_that_are_left_count_for_their_own_layer) {
  const auto budget = budget_of(slots(2));
  Share first, second;
  MOE_CHECK(join(budget, 4, &first).ok());
  const OffloadOptions options{.budget = budget, .own = {}, .pinned = {}, .rows_to_load = 10};
  MOE_CHECK(OffloadShare::join(budget, 4, {60, 40}, options, {}, &second).ok());
  MOE_CHECK(second->leave({{.expert = 1, .rows = 3}, {.expert = 2, .rows = 10}}) == std::vector<int32_t>{1});
  second->plan({2});
  MOE_CHECK_EQUAL(second->preferred(), 1);
  MOE_CHECK_EQUAL(second->stats().counts.on_cpu, 1);
  MOE_CHECK_EQUAL(first->stats().counts.on_cpu, 0);
}
