// Plans are pure: every choice can be tested without a GPU.
#include "gpu/plan/plan.h"
#include "core/operators/routing_gradients.h"

#include <algorithm>
#include <cstdint>

#include "check.h"
#include "gpu/devices.h"

namespace moe::gpu::test {
namespace {

RouterSizes router_sizes(int64_t tokens, int64_t experts, int x_bytes = 2, int weight_bytes = 4) {
  return {
      .tokens = tokens, .experts = experts, .x_bytes = x_bytes, .weight_bytes = weight_bytes, .whole_vectors = true};
}

MOE_TEST(rows_of_a_block_have_a_thread_for_each_run_as_far_as_they_go) {
  MOE_CHECK_EQUAL(wide_row_threads(0, 4, kH100), 32);
  MOE_CHECK_EQUAL(wide_row_threads(129, 4, kH100), 64);
  MOE_CHECK_EQUAL(wide_row_threads(2048, 4, kH100), 512);
  MOE_CHECK_EQUAL(wide_row_threads(7168, 4, kH100), 1024);
  DeviceTraits small = kH100;
  small.max_threads = 128;
  MOE_CHECK_EQUAL(wide_row_threads(7168, 4, small), 128);
  MOE_CHECK_EQUAL(wide_row_grid(3, kH100), 3u);
  MOE_CHECK(wide_row_grid(int64_t{1} << 40, kH100) < 10000);
}

MOE_TEST(few_rows_are_divided_among_blocks_while_there_is_room) {
  MOE_CHECK_EQUAL(blocks_of_row(8, 16, 56, kH100), 14u);
  MOE_CHECK_EQUAL(blocks_of_row(512, 16, 56, kH100), 4u);
  MOE_CHECK_EQUAL(blocks_of_row(4096, 16, 56, kH100), 1u);
  MOE_CHECK_EQUAL(blocks_of_row(0, 16, 0, kH100), 1u);
  MOE_CHECK_EQUAL(blocks_of_row(1, 16, int64_t{1} << 40, kH100), 16u * 132);
}

MOE_TEST(sorts_of_few_slots_take_one_block) {
  const SortPlan one = plan_sort(8, 128, kH100);
  MOE_CHECK(one.single_block);
  MOE_CHECK_EQUAL(one.units, 1);
  MOE_CHECK_EQUAL(one.threads, 128);
  MOE_CHECK_EQUAL(plan_sort(8, 256, kH100).threads, 256);
  MOE_CHECK_EQUAL(plan_sort(8, 5000, kH100).threads, 1024);
  MOE_CHECK_EQUAL(one.workspace_bytes, 0u);
  const SortPlan largest = plan_sort(8192, 128, kH100);
  MOE_CHECK(largest.single_block);
  MOE_CHECK_EQUAL(largest.units, 32);
  MOE_CHECK_EQUAL(largest.slots_per_unit, 256);
  MOE_CHECK(!plan_sort(8193, 128, kH100).single_block);
  MOE_CHECK(plan_sort(0, 1, kH100).single_block);
}

MOE_TEST(sorts_cover_every_slot_once) {
  for (const int64_t experts : {1, 8, 300, 4096, 20000, 1 << 22}) {
    for (const int64_t slots :
         {int64_t{0}, int64_t{1}, int64_t{33}, int64_t{9000}, int64_t{1} << 20, (int64_t{1} << 31) - 1}) {
      for (const int max_threads : {128, 1024}) {
        DeviceTraits traits = kH100;
        traits.max_threads = max_threads;
        const SortPlan plan = plan_sort(slots, experts, traits);
        MOE_CHECK(plan.units * plan.slots_per_unit >= slots);
        MOE_CHECK(plan.single_block || (plan.units - 1) * plan.slots_per_unit < std::max<int64_t>(slots, 1));
        MOE_CHECK(plan.threads <= max_threads && plan.threads >= 32);
        MOE_CHECK(plan.shared_bytes <= 48 * 1024);
        MOE_CHECK(static_cast<int64_t>(plan.grid) * plan.threads / 32 >= plan.units);
        MOE_CHECK(plan.workspace_bytes <= size_t{64} << 20);
        MOE_CHECK(plan.single_block || plan.workspace_bytes == static_cast<size_t>(plan.units) * experts * 4);
      }
    }
  }
}

MOE_TEST(sorts_take_no_more_shared_memory_than_a_block_gets_unasked) {
  for (int64_t experts = 1; experts <= 1024; ++experts) {
    for (const int64_t slots : {1, 737, 993, 1024, 6144, 8192, 100000}) {
      const SortPlan plan = plan_sort(slots, experts, kH100);
      MOE_CHECK(plan.shared_bytes + kStaticShared <= 48 * 1024);
      MOE_CHECK(plan.shared_bytes > 0);
    }
  }
}

MOE_TEST(sorts_without_experts_have_a_plan) {
  for (const int64_t slots : {0, 100, 1000000}) {
    const SortPlan plan = plan_sort(slots, 0, {});
    MOE_CHECK(plan.grid >= 1 && plan.units >= 1 && plan.slots_per_unit * plan.units >= slots);
  }
}

MOE_TEST(few_tokens_are_gated_by_the_block_that_sorts) {
  const auto gates = [](int64_t tokens, int64_t k, int64_t experts, const DeviceTraits& traits = kH100) {
    return gates_in_block(tokens, plan_sort(tokens * k, experts, traits), traits);
  };
  MOE_CHECK(gates(0, 8, 128));
  MOE_CHECK(gates(16, 8, 128));
  MOE_CHECK(gates(16, 8, 5000));
  MOE_CHECK(!gates(17, 8, 128));
  // A block of fewer warps than units.
  MOE_CHECK(gates(16, 16, 128));
  MOE_CHECK(!gates(16, 17, 128));
  DeviceTraits small = kH100;
  small.max_threads = 128;
  MOE_CHECK(gates(8, 8, 128, small));
  MOE_CHECK(!gates(9, 8, 128, small));
}

MOE_TEST(few_slots_are_filled_by_the_block_that_sorts) {
  const auto fills = [](int64_t slots, int64_t experts) {
    return fills_in_block(slots, plan_sort(slots, experts, kH100));
  };
  MOE_CHECK(fills(9, 128));
  MOE_CHECK(fills(2048, 128));
  MOE_CHECK(!fills(2080, 128));
  MOE_CHECK(!fills(9000, 128));
}

MOE_TEST(blocks_that_route_have_a_thread_for_every_range_of_rows) {
  const SortPlan sort = plan_sort(8, 128, kH100);
  MOE_CHECK_EQUAL(route_threads(sort, 0, kH100), 128);
  MOE_CHECK_EQUAL(route_threads(sort, 130, kH100), 160);
  MOE_CHECK_EQUAL(route_threads(plan_sort(8, 5000, kH100), 5002, kH100), 1024);
  MOE_CHECK_EQUAL(route_threads_with_gating(sort, 130, 1, kH100), 160);
  MOE_CHECK_EQUAL(route_threads_with_gating(sort, 130, 7, kH100), 224);
  MOE_CHECK_EQUAL(route_threads_with_gating(sort, 130, 16, kH100), 256);
  MOE_CHECK_EQUAL(route_threads_with_gating(plan_sort(0, 5000, kH100), 5002, 0, kH100), 256);
}

MOE_TEST(gating_keeps_logits_in_registers_while_they_fit) {
  MOE_CHECK_EQUAL(plan_gating(1, 8, kH100).per_lane, 2);
  MOE_CHECK_EQUAL(plan_gating(1, 64, kH100).per_lane, 2);
  MOE_CHECK_EQUAL(plan_gating(1, 65, kH100).per_lane, 8);
  MOE_CHECK_EQUAL(plan_gating(1, 256, kH100).per_lane, 8);
  MOE_CHECK_EQUAL(plan_gating(1, 1024, kH100).per_lane, 32);
  MOE_CHECK_EQUAL(plan_gating(1, 1025, kH100).per_lane, 0);
}

MOE_TEST(grids_are_empty_without_work_and_bounded_with_much) {
  MOE_CHECK_EQUAL(plan_gating(0, 8, kH100).grid, 0u);
  MOE_CHECK_EQUAL(plan_router(router_sizes(0, 8), kH100).grid, 0u);
  MOE_CHECK_EQUAL(row_grid(0, kH100), 0u);
  MOE_CHECK_EQUAL(plan_columns(0, 64, kCombineColumns, kH100).grid_rows, 0u);
  const int64_t many = int64_t{1} << 40;
  MOE_CHECK(row_grid(many, kH100) <= 132u * 32);
  MOE_CHECK(plan_columns(many, many, kCombineColumns, kH100).grid_columns <= 65535u);
}

MOE_TEST(router_tiles_grow_with_the_products) {
  // A warp for each expert: as many multiprocessors as there are.
  MOE_CHECK_EQUAL(plan_router(router_sizes(1, 256), kH100).tile, 0);
  MOE_CHECK_EQUAL(plan_router(router_sizes(1, 256), kH100).grid, 256u);
  MOE_CHECK_EQUAL(plan_router(router_sizes(1, 8), kH100).grid, 8u);
  MOE_CHECK_EQUAL(plan_router(router_sizes(8, 256), kH100).tile, 1);
  // 128 blocks of 132 multiprocessors read 24 rows each; those of the smaller tile 64.
  MOE_CHECK_EQUAL(plan_router(router_sizes(64, 256), kH100).tile, 2);
  MOE_CHECK_EQUAL(plan_router(router_sizes(64, 256), kH100).grid, 128u);
  MOE_CHECK_EQUAL(plan_router(router_sizes(4096, 256), kH100).tile, 3);
  MOE_CHECK_EQUAL(plan_router(router_sizes(4096, 256), kH100).grid, 1024u);
  int tile = 0;
  for (int64_t tokens = 1; tokens <= 65536; tokens *= 2) {
    MOE_CHECK(plan_router(router_sizes(tokens, 256), kH100).tile >= tile);
    tile = plan_router(router_sizes(tokens, 256), kH100).tile;
  }
}

MOE_TEST(router_tiles_fit_into_shared_memory_and_cover_all_logits) {
  for (const DeviceTraits& traits : {kA100, kH100, kL40S, kSmall, DeviceTraits{}}) {
    for (const int64_t tokens : {1, 3, 64, 1000, 4096}) {
      for (const int64_t experts : {1, 8, 60, 256, 384}) {
        for (const int bytes : {2, 4}) {
          const RouterPlan plan = plan_router(router_sizes(tokens, experts, bytes, bytes), traits);
          const RouterTile& tile = kRouterTiles[plan.tile];
          MOE_CHECK(plan.shared_bytes <= traits.shared_per_block);
          MOE_CHECK(tile.threads() <= traits.max_threads);
          MOE_CHECK(plan.grid > 0 && plan.grid <= 32u * traits.multiprocessors);
          MOE_CHECK(plan.grid == 32u * traits.multiprocessors ||
                    int64_t{plan.grid} * tile.block_tokens() * tile.block_experts() >= tokens * experts);
        }
      }
    }
  }
  MOE_CHECK_EQUAL(plan_router(router_sizes(4096, 256, 4, 4), kH100).tile, 3);
  MOE_CHECK_EQUAL(plan_router(router_sizes(4096, 256, 4, 4), kL40S).tile, 2);
}

MOE_TEST(rows_that_vectors_cannot_read_have_one_router_tile) {
  for (const int64_t tokens : {1, 64, 4096}) {
    RouterSizes sizes = router_sizes(tokens, 256);
    sizes.whole_vectors = false;
    MOE_CHECK_EQUAL(plan_router(sizes, kH100).tile, kRouterTileOfAnyRows);
    MOE_CHECK_EQUAL(plan_router(sizes, kH100).shared_bytes, 0u);
  }
}

MOE_TEST(the_splits_of_router_gradients_cover_the_tokens_in_whole_blocks) {
  for (const int64_t tokens : {0, 1, 64, 65, 4096, 100000}) {
    for (const int64_t experts : {1, 8, 257}) {
      for (const int64_t hidden : {1, 4096, 7168}) {
        const RouterGradientPlan plan = plan_router_gradient(tokens, experts, hidden);
        MOE_CHECK_EQUAL(plan.tokens_per_split % kGradientBlock, 0);
        MOE_CHECK(plan.splits * plan.tokens_per_split >= tokens);
        MOE_CHECK(plan.splits == 1 || (plan.splits - 1) * plan.tokens_per_split < tokens);
        MOE_CHECK_EQUAL(plan.workspace_bytes == 0, plan.splits == 1);
        MOE_CHECK(plan.workspace_bytes <= size_t{64} << 20);
      }
    }
  }
}

MOE_TEST(accesses_are_as_wide_as_everything_is_aligned) {
  MOE_CHECK_EQUAL(access_width({0, 256, 32}), 16);
  MOE_CHECK_EQUAL(access_width({0, 256, 24}), 8);
  MOE_CHECK_EQUAL(access_width({4, 256, 32}), 4);
  MOE_CHECK_EQUAL(access_width({0, 256, 6}), 2);
}

MOE_TEST(too_many_rows_are_refused) {
  MOE_CHECK(check_rows("x", (int64_t{1} << 31) - 1).ok());
  MOE_CHECK(check_rows("x", int64_t{1} << 31).code == Code::invalid_argument);
  MOE_CHECK(check_columns((int64_t{1} << 30) - 1).ok());
  MOE_CHECK(check_columns(int64_t{1} << 30).code == Code::invalid_argument);
}

MOE_TEST(plans_can_be_printed) {
  MOE_CHECK_EQUAL(describe(plan_router(router_sizes(4096, 256), kH100)),
                  "router tile 32x32 (warp 8x16), grid 1024, shared 98304");
  MOE_CHECK_EQUAL(describe(plan_gating(100, 2000, kH100)), "gating logits read again, grid 25");
  MOE_CHECK_EQUAL(describe(plan_sort(16, 8, kH100)),
                  "sort in one block, 1 units of 32 slots, grid 1 x 32, shared 32, workspace 0");
}

}  // namespace
}  // namespace moe::gpu::test
