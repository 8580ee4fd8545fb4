#include "gpu/plan/capacity_plan.h"

#include <algorithm>
#include <sstream>

#include "gpu/plan/plan_parts.h"

namespace moe::gpu {
namespace {

size_t ints(int64_t count) { return static_cast<size_t>(count) * sizeof(int); }
size_t numbers(int64_t count) { return static_cast<size_t>(count) * sizeof(uint64_t); }

SortedIdsPlan plan_sorted_ids(int64_t slots, int64_t experts, const DeviceTraits& traits, Parts& parts) {
  SortedIdsPlan plan{};
  plan.sort = plan_sort(slots, experts, traits);
  plan.offsets = parts.take(ints(experts + 1));
  plan.tokens_per_expert = parts.take(ints(experts));
  plan.token_of_row = parts.take(ints(slots));
  plan.row_of_slot = parts.take(ints(slots));
  plan.counts = parts.take(plan.sort.workspace_bytes);
  plan.workspace_bytes = parts.end();
  return plan;
}

unsigned thread_grid(int64_t items, const DeviceTraits& traits) {
  return capped_grid(ceil_divide(items, kCapacityThreads), kBlocksPerMultiprocessor, traits);
}

// Threads for a block that works through `items`.
int threads_for(int64_t items, int most, const DeviceTraits& traits) {
  return static_cast<int>(std::clamp(round_up(items, 32), int64_t{32}, int64_t{std::min(most, traits.max_threads)}));
}

}  // namespace

CapacityPlan plan_capacity(const LimitCapacity& problem, const DeviceTraits& traits) {
  const int64_t tokens = problem.ids.shape[0], slots = problem.ids.size();
  const int64_t groups = tokens / problem.sequence_length * problem.experts;
  Parts parts;
  CapacityPlan plan{};
  plan.sorted = plan_sorted_ids(slots, problem.experts, traits, parts);
  plan.numbers = parts.take(numbers(slots));
  plan.limits = parts.take(numbers(groups));
  plan.token_grid = thread_grid(tokens, traits);
  plan.limit_grid = capped_grid(groups, kBlocksPerMultiprocessor, traits);
  const int64_t average = ceil_divide(slots, std::max(groups, int64_t{1}));
  plan.limit_threads = threads_for(average, kLimitThreads, traits);
  plan.workspace_bytes = parts.end();
  return plan;
}

ExpertSlotsPlan plan_expert_slots(const ExpertSlots& problem, const DeviceTraits& traits) {
  Parts parts;
  ExpertSlotsPlan plan{};
  plan.sorted = plan_sorted_ids(problem.ids.size(), problem.slots.shape[0], traits, parts);
  plan.grid = thread_grid(problem.ids.size(), traits);
  return plan;
}

ExpertChoicePlan plan_expert_choice(const ExpertChoice& problem, const DeviceTraits& traits) {
  const int64_t tokens = problem.logits.shape[0], experts = problem.logits.shape[1];
  const int64_t chosen = problem.tokens.size();
  Parts parts;
  ExpertChoicePlan plan{};
  plan.numbers = parts.take(numbers(tokens * experts));
  plan.chosen = parts.take(numbers(chosen));
  plan.swapped = parts.take(numbers(chosen));
  plan.limits = parts.take(numbers(experts));
  plan.token_grid = row_grid(tokens, traits);
  plan.pair_grid = thread_grid(tokens * experts, traits);
  plan.expert_grid = capped_grid(experts, kBlocksPerMultiprocessor, traits);
  plan.expert_threads = threads_for(tokens, kChoiceThreads, traits);
  plan.workspace_bytes = parts.end();
  return plan;
}

std::string describe(const CapacityPlan& plan) {
  std::ostringstream text;
  text << describe(plan.sorted.sort) << "; limits: grid " << plan.limit_grid << " x " << plan.limit_threads
       << ", tokens: grid " << plan.token_grid << ", workspace " << plan.workspace_bytes;
  return text.str();
}

std::string describe(const ExpertSlotsPlan& plan) {
  std::ostringstream text;
  text << describe(plan.sorted.sort) << "; slots: grid " << plan.grid << ", workspace " << plan.sorted.workspace_bytes;
  return text.str();
}

std::string describe(const ExpertChoicePlan& plan) {
  std::ostringstream text;
  text << "expert choice: scores grid " << plan.token_grid << ", experts grid " << plan.expert_grid << " x "
       << plan.expert_threads << ", pairs grid " << plan.pair_grid << ", workspace " << plan.workspace_bytes;
  return text.str();
}

}  // namespace moe::gpu
