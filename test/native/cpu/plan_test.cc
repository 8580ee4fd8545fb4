#include "cpu/gemm/plan.h"

#include <algorithm>
#include <map>

#include "check.h"
#include "cpu/gemm/panel_scales.h"
#include "random.h"

namespace {

using moe::cpu::kLongestSum;
using moe::cpu::plan_product;
using moe::cpu::plan_tiles;
using moe::cpu::ProductPlan;
using moe::cpu::RowTile;
using moe::cpu::WorkItem;

std::vector<int32_t> random_offsets(moe::test::Random& random, int64_t experts) {
  std::vector<int32_t> offsets = {0};
  for (int64_t e = 0; e < experts; ++e) {
    offsets.push_back(offsets.back() + static_cast<int32_t>(random.below(3) == 0 ? 0 : random.below(200)));
  }
  return offsets;
}

}  // namespace

MOE_TEST(tiles_cover_every_row_once_and_evenly) {
  moe::test::Random random(1);
  for (int round = 0; round < 200; ++round) {
    const int64_t experts = 1 + random.below(20);
    const int max_rows = 1 + static_cast<int>(random.below(14));
    const std::vector<int32_t> offsets = random_offsets(random, experts);
    int64_t row = 0;
    std::map<int32_t, std::pair<int32_t, int32_t>> sizes;
    for (const RowTile& tile : plan_tiles(offsets.data(), experts, max_rows)) {
      MOE_CHECK_EQUAL(tile.first_row, row);
      MOE_CHECK(tile.rows >= 1 && tile.rows <= max_rows);
      MOE_CHECK(tile.first_row >= offsets[tile.expert] && tile.first_row + tile.rows <= offsets[tile.expert + 1]);
      row += tile.rows;
      auto& [smallest, largest] = sizes.try_emplace(tile.expert, tile.rows, tile.rows).first->second;
      smallest = std::min(smallest, tile.rows);
      largest = std::max(largest, tile.rows);
    }
    MOE_CHECK_EQUAL(row, int64_t{offsets.back()});
    for (const auto& [expert, range] : sizes) MOE_CHECK(range.second - range.first <= 1);
  }
}

MOE_TEST(items_cover_every_tile_and_panel_once) {
  moe::test::Random random(2);
  for (int round = 0; round < 100; ++round) {
    const int64_t experts = 1 + random.below(8);
    const std::vector<int32_t> offsets = random_offsets(random, experts);
    const std::vector<RowTile> tiles = plan_tiles(offsets.data(), experts, 14);
    const int64_t panels = random.below(300);
    const int64_t k = random.below(20000);
    const int64_t longest_k = 1 + random.below(5000);
    const int64_t panels_at_once = 1 + random.below(4);
    const ProductPlan plan = plan_product(tiles, {.padded_k = k,
                                                  .step = 1,
                                                  .panels = panels,
                                                  .panels_at_once = panels_at_once,
                                                  .x_bytes = 4,
                                                  .tile_bytes = 1792,
                                                  .blocking = {.longest_k = longest_k},
                                                  .threads = 1 + static_cast<int>(random.below(8))});
    std::vector<int> covered(tiles.size() * static_cast<size_t>(panels), 0);
    for (const WorkItem& item : plan.items) {
      MOE_CHECK(item.tiles <= plan.most_tiles && item.panels <= plan.most_panels);
      for (int64_t t = item.first_tile; t < item.first_tile + item.tiles; ++t) {
        MOE_CHECK_EQUAL(tiles[t].expert, tiles[item.first_tile].expert);
        for (int64_t p = item.first_panel; p < item.first_panel + item.panels; ++p) ++covered[t * panels + p];
      }
    }
    MOE_CHECK(std::all_of(covered.begin(), covered.end(), [](int count) { return count == 1; }));
    MOE_CHECK(plan.k_block > 0 && plan.k_block % kLongestSum == 0 && plan.k_block <= longest_k + kLongestSum);
  }
}

MOE_TEST(items_have_whole_numbers_of_the_panels_that_are_taken_at_once) {
  const std::vector<int32_t> offsets = {0, 1};
  const std::vector<RowTile> tiles = plan_tiles(offsets.data(), 1, 14);
  const auto panels_of = [&](int64_t panels, int threads, int64_t longest_k) {
    return plan_product(tiles, {.padded_k = 2048,
                                .step = 1,
                                .panels = panels,
                                .panels_at_once = 4,
                                .x_bytes = 4,
                                .tile_bytes = 1024,
                                .blocking = {.longest_k = longest_k},
                                .threads = threads})
        .most_panels;
  };
  MOE_CHECK_EQUAL(panels_of(896, 2, 4096), 4);
  MOE_CHECK_EQUAL(panels_of(896, 1, 4096), 12);
  MOE_CHECK_EQUAL(panels_of(64, 2, 4096), 4);
  MOE_CHECK_EQUAL(panels_of(63, 2, 4096), 1);  // threads would wait for each other
  MOE_CHECK_EQUAL(panels_of(896, 2, 1024), 4);
}

MOE_TEST(blocks_keep_all_k_of_their_rows_in_the_cache_unless_they_would_be_short) {
  const std::vector<int32_t> offsets = {0, 1024};
  const std::vector<RowTile> tiles = plan_tiles(offsets.data(), 1, 32);
  const auto most_rows = [&](int64_t k) {
    return 32 * plan_product(tiles, {.padded_k = k,
                                     .step = 32,
                                     .panels = 64,
                                     .panels_at_once = 1,
                                     .x_bytes = 2,
                                     .tile_bytes = 4096,
                                     .blocking = {.longest_k = 512},
                                     .threads = 2})
                    .most_tiles;
  };
  MOE_CHECK_EQUAL(most_rows(1024), 512);
  MOE_CHECK_EQUAL(most_rows(2048), 256);
  MOE_CHECK_EQUAL(most_rows(4096), 512);
}

MOE_TEST(blocks_are_many_if_each_thread_has_several) {
  const auto many = [](int64_t experts, int threads) {
    std::vector<int32_t> offsets(static_cast<size_t>(experts) + 1);
    for (int64_t e = 0; e <= experts; ++e) offsets[e] = static_cast<int32_t>(10 * e);
    return plan_product(plan_tiles(offsets.data(), experts, 14), {.padded_k = 64,
                                                                  .step = 1,
                                                                  .panels = 20,
                                                                  .panels_at_once = 1,
                                                                  .x_bytes = 4,
                                                                  .tile_bytes = 1792,
                                                                  .blocking = {},
                                                                  .threads = threads})
        .many_blocks;
  };
  MOE_CHECK(many(8, 2));
  MOE_CHECK(!many(7, 2));
  MOE_CHECK(!many(8, 3));
}

MOE_TEST(the_cut_of_k_does_not_depend_on_rows_or_threads) {
  const std::vector<int32_t> few = {0, 1}, many = {0, 5000};
  for (const int64_t k : {1, 64, 2048, 4097, 14336, 30000}) {
    const auto block = [k](const std::vector<int32_t>& offsets, int threads) {
      return plan_product(plan_tiles(offsets.data(), 1, 14), {.padded_k = k,
                                                              .step = 1,
                                                              .panels = 10,
                                                              .panels_at_once = 1,
                                                              .x_bytes = 2,
                                                              .tile_bytes = 4096,
                                                              .blocking = {.longest_k = 4096},
                                                              .threads = threads})
          .k_block;
    };
    MOE_CHECK_EQUAL(block(few, 1), block(many, 8));
  }
}

// One panel's sums alone may be more than the cache has room for.
MOE_TEST(items_take_a_panel_even_where_its_sums_fill_the_cache) {
  const std::vector<RowTile> tiles = {{.expert = 0, .rows = 1, .first_row = 0}};
  const ProductPlan plan = plan_product(tiles, {.padded_k = 1024,
                                                .step = 1,
                                                .panels = 64,
                                                .panels_at_once = 4,
                                                .x_bytes = 4,
                                                .tile_bytes = int64_t{2} << 20,
                                                .blocking = {.longest_k = 512},
                                                .threads = 1});
  MOE_CHECK_EQUAL(plan.most_panels, 1);
  MOE_CHECK_EQUAL(std::ssize(plan.items), 64);
}
