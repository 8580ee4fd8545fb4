// Plans are pure: every choice can be looked at without a GPU.
#include "gpu/plan/plan.h"

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "check.h"
#include "gpu/gemm/tile_map.h"
#include "gpu/tile/interleave.h"

namespace moe::gpu::test {
namespace {

constexpr DeviceTraits kA100{108, 163 * 1024, 164 * 1024, 1024};
constexpr DeviceTraits kH100{132, 227 * 1024, 228 * 1024, 1024};
constexpr DeviceTraits kSmall{20, 99 * 1024, 100 * 1024, 1024};

GemmProblem bf16_problem(int64_t rows, int64_t experts) {
  return {DType::bf16, DType::bf16, rows, experts, 1536, 2048, true, false};
}

MOE_TEST(tiles_grow_with_the_rows_of_an_expert) {
  MOE_CHECK_EQUAL(plan_gemm(bf16_problem(8, 128), kH100).tile.rows, 16);
  MOE_CHECK_EQUAL(plan_gemm(bf16_problem(8 * 128 + 127, 128), kH100).tile.rows, 16);
  MOE_CHECK_EQUAL(plan_gemm(bf16_problem(9 * 128, 128), kH100).tile.rows, 64);
  MOE_CHECK_EQUAL(plan_gemm(bf16_problem(64 * 128, 128), kH100).tile.rows, 64);
  MOE_CHECK_EQUAL(plan_gemm(bf16_problem(65 * 128, 128), kH100).tile.rows, 128);
  MOE_CHECK_EQUAL(plan_gemm(bf16_problem(1 << 20, 8), kH100).tile.rows, 128);
}

MOE_TEST(tiles_fit_the_device) {
  for (const DeviceTraits& traits : {kA100, kH100, kSmall}) {
    for (const DType type : {DType::f32, DType::f16, DType::bf16}) {
      for (const int64_t rows : {1, 1000, 100000}) {
        for (const bool tf32 : {false, true}) {
          const GemmPlan plan = plan_gemm({type, type, rows, 8, 300, 300, true, tf32}, traits);
          MOE_CHECK(plan.shared_bytes <= traits.shared_per_block);
          MOE_CHECK(plan.tile.threads() <= traits.max_threads);
          MOE_CHECK(plan.grid >= 1);
          MOE_CHECK(plan.grid <= static_cast<unsigned>(traits.multiprocessors * plan.tile.blocks));
        }
      }
    }
  }
  DeviceTraits few_threads = kH100;
  few_threads.max_threads = 128;
  MOE_CHECK_EQUAL(plan_gemm(bf16_problem(1 << 20, 8), few_threads).tile.rows, 64);
  DeviceTraits little_shared = kH100;
  little_shared.shared_per_block = 80 * 1024;
  MOE_CHECK_EQUAL(plan_gemm(bf16_problem(1 << 20, 8), little_shared).tile.rows, 64);
}

MOE_TEST(a_multiprocessor_holds_as_many_blocks_as_planned) {
  const GemmPlan plan = plan_gemm(bf16_problem(1 << 20, 8), kH100);
  MOE_CHECK_EQUAL(plan.grid, 264u);
  MOE_CHECK_EQUAL(plan_gemm(bf16_problem(1 << 20, 8), kA100).grid, 108u);
}

MOE_TEST(the_type_of_both_operands_picks_the_path) {
  const auto path = [](DType x, DType weight, bool tf32) {
    return path_name(plan_gemm({x, weight, 100, 8, 64, 64, true, tf32}, kH100).path);
  };
  MOE_CHECK_EQUAL(std::string(path(DType::bf16, DType::bf16, false)), "bf16");
  MOE_CHECK_EQUAL(std::string(path(DType::f16, DType::f16, true)), "f16");
  MOE_CHECK_EQUAL(std::string(path(DType::f32, DType::f32, false)), "fma");
  MOE_CHECK_EQUAL(std::string(path(DType::f32, DType::f32, true)), "tf32");
  MOE_CHECK_EQUAL(std::string(path(DType::f32, DType::bf16, true)), "fma");
  MOE_CHECK_EQUAL(std::string(path(DType::bf16, DType::f16, false)), "fma");
}

MOE_TEST(x_is_copied_where_its_rows_are_not_aligned_or_its_type_is_not_the_kernels) {
  const auto plan = [](DType x, DType weight, int64_t columns, bool aligned) {
    return plan_gemm({x, weight, 100, 8, 64, columns, aligned, false}, kH100);
  };
  MOE_CHECK(!plan(DType::bf16, DType::bf16, 64, true).converts_x);
  MOE_CHECK_EQUAL(plan(DType::bf16, DType::bf16, 64, true).x_pitch, 64);
  MOE_CHECK(plan(DType::bf16, DType::bf16, 33, false).converts_x);
  MOE_CHECK_EQUAL(plan(DType::bf16, DType::bf16, 33, false).x_pitch, 40);
  MOE_CHECK(plan(DType::bf16, DType::f32, 64, true).converts_x);
  MOE_CHECK_EQUAL(plan(DType::bf16, DType::f32, 33, true).x_pitch, 36);
  MOE_CHECK(plan(DType::bf16, DType::f32, 64, true).x_dtype == DType::f32);
  MOE_CHECK_EQUAL(converted_bytes(plan(DType::bf16, DType::f32, 33, true), 10), 10u * 36 * 4);
  MOE_CHECK_EQUAL(converted_bytes(plan(DType::f32, DType::f32, 32, true), 10), 0u);
}

MOE_TEST(rows_aligned_looks_at_address_and_length) {
  alignas(16) char memory[64];
  TensorView x;
  x.dtype = DType::bf16;
  x.rank = 2;
  x.data = memory;
  x.shape[0] = 2;
  x.shape[1] = 8;
  MOE_CHECK(rows_aligned(x));
  x.shape[1] = 12;
  MOE_CHECK(!rows_aligned(x));
  x.shape[1] = 8;
  x.data = memory + 8;
  MOE_CHECK(!rows_aligned(x));
}

MOE_TEST(packed_rows_alternate_gate_and_up_in_eights) {
  for (const int64_t outputs : {1, 7, 8, 9, 40}) {
    const PackedLayout layout = packed_layout({3, 2 * outputs, 33, &plain_format(DType::bf16), Activation::swiglu});
    std::vector<int> seen(static_cast<size_t>(2 * outputs));
    for (int64_t row = 0; row < layout.rows; ++row) {
      const PackedRow place = unpack_row(row, true);
      MOE_CHECK_EQUAL(place.up, row / kInterleave % 2 == 1);
      if (place.column < outputs) ++seen[static_cast<size_t>(place.column + (place.up ? outputs : 0))];
    }
    for (const int count : seen) MOE_CHECK_EQUAL(count, 1);
    MOE_CHECK_EQUAL(layout.pitch, 64);
  }
  MOE_CHECK_EQUAL(packed_layout({1, 10, 33, &plain_format(DType::f32), Activation::relu}).rows, 10);
  MOE_CHECK_EQUAL(packed_layout({1, 10, 33, &plain_format(DType::f32), Activation::relu}).pitch, 64);
}

MOE_TEST(tile_maps_have_room_for_the_worst_case) {
  // Every range of rows may end with a tile that is not full.
  MOE_CHECK_EQUAL(max_row_tiles(0, 8, 16), 0);
  MOE_CHECK_EQUAL(max_row_tiles(5, 8, 16), 5);
  MOE_CHECK_EQUAL(max_row_tiles(1000, 8, 16), 62 + 10);
  MOE_CHECK_EQUAL(tile_map_bytes(5, 8, 16), 16u + 5 * 16 + 2 * 11 * 4);
}

MOE_TEST(sorts_of_few_slots_take_one_block) {
  const SortPlan one = plan_sort(8, 128, kH100);
  MOE_CHECK(one.single_block);
  MOE_CHECK_EQUAL(one.units, 1);
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
  MOE_CHECK_EQUAL(plan_router(0, 8, kH100).grid, 0u);
  MOE_CHECK_EQUAL(row_grid(0, kH100), 0u);
  MOE_CHECK_EQUAL(plan_gemm(bf16_problem(0, 8), kH100).grid, 0u);
  MOE_CHECK_EQUAL(plan_combine(0, 64, kH100).grid_tokens, 0u);
  const int64_t many = int64_t{1} << 40;
  MOE_CHECK(row_grid(many, kH100) <= 132u * 32);
  MOE_CHECK(plan_combine(many, many, kH100).grid_columns <= 65535u);
}

MOE_TEST(router_tiles_are_small_for_few_tokens) {
  MOE_CHECK_EQUAL(plan_router(1, 128, kH100).tile, 0);
  MOE_CHECK_EQUAL(plan_router(4096, 128, kH100).tile, 1);
}

MOE_TEST(accesses_are_as_wide_as_everything_is_aligned) {
  MOE_CHECK_EQUAL(access_width({0, 256, 32}), 16);
  MOE_CHECK_EQUAL(access_width({0, 256, 24}), 8);
  MOE_CHECK_EQUAL(access_width({4, 256, 32}), 4);
  MOE_CHECK_EQUAL(access_width({0, 256, 6}), 2);
}

struct Part {
  size_t begin, bytes;
};

// Every part of the workspace, in order, with the bytes that its tensor takes.
void check_parts(const LayerPlan& plan, const std::vector<Part>& parts) {
  for (size_t i = 0; i < parts.size(); ++i) {
    MOE_CHECK_EQUAL(parts[i].begin % 256, 0u);
    MOE_CHECK(parts[i].begin + parts[i].bytes <= (i + 1 < parts.size() ? parts[i + 1].begin : plan.workspace_bytes));
  }
}

LayerDescription small_layer() {
  LayerDescription layer;
  layer.hidden = 45;
  layer.intermediate = 38;
  layer.experts = 9;
  layer.bank = {0, 9};
  layer.gating.top_k = 3;
  layer.formats = {&kBF16Format, &kBF16Format, &kBF16Format, &kBF16Format, &kBF16Format, &kBF16Format};
  return layer;
}

LayerProblem of_tokens(const LayerDescription& layer, int64_t tokens, DType x, bool aligned) {
  return {tokens, layer.gating.top_k, tokens * layer.gating.top_k, x, aligned, false};
}

MOE_TEST(a_layers_workspace_has_a_place_for_every_part) {
  const LayerPlan plan = plan_layer(small_layer(), of_tokens(small_layer(), 13, DType::bf16, false), kH100);
  MOE_CHECK(plan.gate_up.converts_x);
  MOE_CHECK_EQUAL(plan.gate_up.x_pitch, 48);
  MOE_CHECK_EQUAL(plan.inner_pitch, 40);
  MOE_CHECK_EQUAL(plan.down.x_pitch, 40);
  MOE_CHECK(!plan.down.converts_x);
  MOE_CHECK_EQUAL(plan.down_map, plan.gate_up_map);
  MOE_CHECK(plan.rows_dtype == DType::bf16);
  check_parts(plan, {{plan.logits, 13 * 9 * 4},
                     {plan.ids, 39 * 4},
                     {plan.weights, 39 * 4},
                     {plan.offsets, 10 * 4},
                     {plan.tokens_per_expert, 9 * 4},
                     {plan.token_of_row, 39 * 4},
                     {plan.row_of_slot, 39 * 4},
                     {plan.sort_counts, plan.sort.workspace_bytes},
                     {plan.converted_x, 13 * 48 * 2},
                     {plan.gate_up_map, plan.gate_up.tile_map_bytes},
                     {plan.inner, 39 * 40 * 2},
                     {plan.rows, 39 * 45 * 2}});
}

MOE_TEST(a_workspace_has_a_place_for_the_slots_of_shared_experts_and_the_weights_of_inputs) {
  LayerDescription layer = small_layer();
  layer.shared_experts = 2;
  layer.shared_gate = SharedGate::softmax;
  layer.weight_on = WeightPlace::input;
  layer.output_activation = OutputActivation::softmax;
  const LayerPlan plan = plan_layer(layer, of_tokens(layer, 13, DType::bf16, false), kH100);
  MOE_CHECK(plan.rows_dtype == DType::f32);
  MOE_CHECK(plan.sort.units * plan.sort.slots_per_unit >= 13 * 5);
  MOE_CHECK_EQUAL(plan.gate_up.max_row_tiles, max_row_tiles(13 * 5, 11, plan.gate_up.tile.rows));
  check_parts(plan, {{plan.logits, 13 * 9 * 4},
                     {plan.ids, 39 * 4},
                     {plan.weights, 39 * 4},
                     {plan.shared_gate, 13 * 2 * 4},
                     {plan.slot_ids, 65 * 4},
                     {plan.slot_weights, 65 * 4},
                     {plan.offsets, 12 * 4},
                     {plan.tokens_per_expert, 11 * 4},
                     {plan.token_of_row, 65 * 4},
                     {plan.weight_of_row, 65 * 4},
                     {plan.row_of_slot, 65 * 4},
                     {plan.sort_counts, plan.sort.workspace_bytes},
                     {plan.converted_x, 13 * 48 * 2},
                     {plan.gate_up_map, plan.gate_up.tile_map_bytes},
                     {plan.inner, 65 * 40 * 2},
                     {plan.rows, 65 * 45 * 4}});
}

MOE_TEST(rows_are_as_many_as_choices_at_most) {
  LayerDescription layer = small_layer();
  layer.shared_experts = 2;
  LayerProblem problem = of_tokens(layer, 1000, DType::bf16, true);
  const LayerPlan whole = plan_layer(layer, problem, kH100);
  MOE_CHECK_EQUAL(whole.row_count, 5000);
  problem.max_choices = 100;
  const LayerPlan plan = plan_layer(layer, problem, kH100);
  MOE_CHECK_EQUAL(plan.row_count, 2100);
  MOE_CHECK_EQUAL(plan.gate_up.max_row_tiles, max_row_tiles(2100, layer.all_experts(), plan.gate_up.tile.rows));
  MOE_CHECK_EQUAL(static_cast<int64_t>(plan.workspace_bytes - plan.rows) / 1024, 2100 * 45 * 2 / 1024);
  problem.max_choices = 9999;
  MOE_CHECK_EQUAL(plan_layer(layer, problem, kH100).row_count, 5000);
}

MOE_TEST(a_layer_takes_no_more_memory_for_parts_that_it_lacks) {
  const auto bytes = [](const LayerDescription& layer) {
    return plan_layer(layer, of_tokens(layer, 1000, DType::bf16, false), kH100).workspace_bytes;
  };
  LayerDescription layer = small_layer();
  const size_t plain = bytes(layer);
  // The factor's product takes the place of the activation's, which multiplies it.
  layer.factor = true;
  MOE_CHECK_EQUAL(bytes(layer), plain);
  layer.weight_on = WeightPlace::input;
  MOE_CHECK(bytes(layer) >= plain + 3000 * 4 && bytes(layer) < plain + 3000 * 4 + 256);
  layer.shared_experts = 1;
  const size_t ungated = bytes(layer);
  layer.shared_gate = SharedGate::sigmoid;
  MOE_CHECK(bytes(layer) >= ungated + 1000 * 4 && bytes(layer) < ungated + 1000 * 4 + 256);
}

MOE_TEST(the_factors_product_has_the_tiles_and_the_operand_of_gate_and_up) {
  LayerDescription layer = small_layer();
  layer.factor = true;
  for (const int64_t tokens : {0, 1, 40, 1000, 50000}) {
    for (const DType x : {DType::f32, DType::f16, DType::bf16}) {
      const LayerPlan plan = plan_layer(layer, of_tokens(layer, tokens, x, true), kH100);
      MOE_CHECK_EQUAL(plan.factor.tile.rows, plan.gate_up.tile.rows);
      MOE_CHECK_EQUAL(plan.factor.max_row_tiles, plan.gate_up.max_row_tiles);
      MOE_CHECK_EQUAL(plan.factor.converts_x, plan.gate_up.converts_x);
      MOE_CHECK(plan.factor.x_dtype == plan.gate_up.x_dtype);
      MOE_CHECK_EQUAL(plan.factor.x_pitch, plan.gate_up.x_pitch);
      MOE_CHECK(plan.factor.path == plan.gate_up.path);
    }
  }
}

MOE_TEST(float32_layers_keep_float32_between_the_products) {
  LayerDescription layer;
  layer.hidden = 64;
  layer.intermediate = 32;
  layer.experts = 4;
  layer.bank = {0, 4};
  layer.formats = {&kBF16Format, &kBF16Format, &kBF16Format, &kBF16Format, &kBF16Format, &kBF16Format};
  const LayerPlan plan = plan_layer(layer, of_tokens(layer, 10, DType::f32, true), kH100);
  MOE_CHECK(plan.inner_dtype == DType::f32);
  MOE_CHECK(plan.down.path == GemmPath::fma);
}

MOE_TEST(too_many_rows_are_refused) {
  MOE_CHECK(check_rows("x", (int64_t{1} << 31) - 1).ok());
  MOE_CHECK(check_rows("x", int64_t{1} << 31).code == Code::invalid_argument);
}

MOE_TEST(plans_can_be_printed) {
  MOE_CHECK_EQUAL(describe(plan_gemm(bf16_problem(1024, 8), kH100)),
                  "grouped GEMM bf16, tile 128x128, 3 stages, grid 216 x 256, shared 98304, at most 18x12 tiles");
  MOE_CHECK_EQUAL(describe(plan_gating(100, 2000, kH100)), "gating logits read again, grid 25");
  MOE_CHECK_EQUAL(describe(plan_sort(16, 8, kH100)),
                  "sort in one block, 1 units of 32 slots, grid 1 x 32, shared 32, workspace 0");
}

}  // namespace
}  // namespace moe::gpu::test
