// Plans of the operators that limit what experts take; see plan.h.
#pragma once

#include <string>

#include "core/operators/capacity.h"
#include "gpu/plan/plan.h"

namespace moe::gpu {

// Where a workspace keeps the results of sorting ids by expert.
struct SortedIdsPlan {
  SortPlan sort;
  size_t offsets, tokens_per_expert, token_of_row, row_of_slot, counts;
  size_t workspace_bytes;
};

constexpr int kCapacityThreads = 128;
constexpr int kLimitThreads = 512;
struct CapacityPlan {
  SortedIdsPlan sorted;
  size_t numbers;  // u64 for every row
  size_t limits;   // u64 for every sequence and expert
  unsigned token_grid;
  // One block for each sequence and expert.
  unsigned limit_grid;
  int limit_threads;
  size_t workspace_bytes;
};
CapacityPlan plan_capacity(const LimitCapacity& problem, const DeviceTraits& traits);

struct ExpertSlotsPlan {
  SortedIdsPlan sorted;
  unsigned grid;
};
ExpertSlotsPlan plan_expert_slots(const ExpertSlots& problem, const DeviceTraits& traits);

// Threads of the block of an expert, which sorts this many tokens at once.
constexpr int kChoiceThreads = 256;
struct ExpertChoicePlan {
  size_t numbers;          // [E, T] u64
  size_t chosen, swapped;  // [E, C] u64 each
  size_t limits;           // [E] u64
  unsigned token_grid, pair_grid, expert_grid;
  int expert_threads;
  size_t workspace_bytes;
};
ExpertChoicePlan plan_expert_choice(const ExpertChoice& problem, const DeviceTraits& traits);

std::string describe(const CapacityPlan& plan);
std::string describe(const ExpertSlotsPlan& plan);
std::string describe(const ExpertChoicePlan& plan);

}  // namespace moe::gpu
