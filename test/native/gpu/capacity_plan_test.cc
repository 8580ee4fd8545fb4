#include "gpu/plan/capacity_plan.h"

#include "check.h"
#include "gpu/plan/views.h"

namespace moe::gpu::test {
namespace {

constexpr DeviceTraits kH100{132, 227 * 1024, 228 * 1024, 1024};

LimitCapacity capacity_problem(int64_t tokens, int64_t top_k, int64_t experts, int64_t sequence_length) {
  LimitCapacity problem;
  problem.ids = matrix_view(nullptr, DType::i32, tokens, top_k);
  problem.experts = experts;
  problem.sequence_length = sequence_length;
  return problem;
}

ExpertChoice choice_problem(int64_t tokens, int64_t experts, int64_t capacity) {
  ExpertChoice problem;
  problem.logits = matrix_view(nullptr, DType::f32, tokens, experts);
  problem.tokens = matrix_view(nullptr, DType::i32, experts, capacity);
  return problem;
}

MOE_TEST(a_block_for_each_sequence_and_expert) {
  const CapacityPlan batch = plan_capacity(capacity_problem(4096, 2, 8, 4096), kH100);
  MOE_CHECK_EQUAL(batch.limit_grid, 8u);
  MOE_CHECK_EQUAL(batch.limit_threads, 512);
  const CapacityPlan sequences = plan_capacity(capacity_problem(4096, 2, 8, 64), kH100);
  MOE_CHECK_EQUAL(sequences.limit_grid, 512u);
  MOE_CHECK_EQUAL(sequences.limit_threads, 32);
  DeviceTraits few_threads = kH100;
  few_threads.max_threads = 128;
  MOE_CHECK_EQUAL(plan_capacity(capacity_problem(4096, 2, 8, 4096), few_threads).limit_threads, 128);
  MOE_CHECK_EQUAL(plan_expert_choice(choice_problem(4096, 8, 512), few_threads).expert_threads, 128);
}

MOE_TEST(no_tokens_are_no_launches) {
  const CapacityPlan plan = plan_capacity(capacity_problem(0, 2, 8, 1), kH100);
  MOE_CHECK_EQUAL(plan.token_grid, 0u);
  MOE_CHECK_EQUAL(plan.limit_grid, 0u);
  const ExpertChoicePlan choice = plan_expert_choice(choice_problem(0, 8, 0), kH100);
  MOE_CHECK_EQUAL(choice.token_grid, 0u);
  MOE_CHECK_EQUAL(choice.pair_grid, 0u);
}

MOE_TEST(parts_of_a_capacity_workspace_do_not_overlap) {
  const LimitCapacity problem = capacity_problem(1000, 4, 60, 100);
  const CapacityPlan plan = plan_capacity(problem, kH100);
  const auto slots = static_cast<size_t>(problem.ids.size());
  MOE_CHECK(plan.sorted.offsets + 61 * sizeof(int) <= plan.sorted.tokens_per_expert);
  MOE_CHECK(plan.sorted.token_of_row + slots * sizeof(int) <= plan.sorted.row_of_slot);
  MOE_CHECK(plan.sorted.row_of_slot + slots * sizeof(int) <= plan.sorted.counts);
  MOE_CHECK(plan.sorted.workspace_bytes <= plan.numbers);
  MOE_CHECK(plan.numbers + slots * sizeof(uint64_t) <= plan.limits);
  MOE_CHECK(plan.limits + 600 * sizeof(uint64_t) <= plan.workspace_bytes);
}

MOE_TEST(capacity_plans_in_words) {
  MOE_CHECK_EQUAL(describe(plan_expert_choice(choice_problem(1000, 8, 250), kH100)),
                  "expert choice: scores grid 250, experts grid 8 x 256, pairs grid 63, workspace 96512");
  MOE_CHECK_EQUAL(describe(plan_capacity(capacity_problem(16, 2, 8, 16), kH100)),
                  "sort in one block, 1 units of 32 slots, grid 1 x 32, shared 32, workspace 0; limits: grid 8 x 32, "
                  "tokens: grid 1, workspace 1536");
}

}  // namespace
}  // namespace moe::gpu::test
