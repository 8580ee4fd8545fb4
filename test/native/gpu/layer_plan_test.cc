#include "gpu/plan/layer_plan.h"

#include <cstdint>
#include <string>
#include <vector>

#include "check.h"
#include "core/formats/find_format.h"
#include "gpu/devices.h"
#include "gpu/gemm/tile_map.h"

namespace moe::gpu::test {
namespace {

struct Part {
  size_t begin, bytes;
};

// Checks every part of the state or the workspace, in order, and the bytes that its tensor takes.
void check_parts(const std::vector<Part>& parts, size_t bytes) {
  for (size_t i = 0; i < parts.size(); ++i) {
    MOE_CHECK_EQUAL(parts[i].begin % 256, 0u);
    MOE_CHECK(parts[i].begin + parts[i].bytes <= (i + 1 < parts.size() ? parts[i + 1].begin : bytes));
  }
}

size_t bytes_of(const LayerPlan& plan) { return plan.state_bytes + plan.workspace_bytes; }
size_t tile_map(const LayerPlan& plan, const ProductPlan& product) { return plan.maps[product.map].map; }

LayerFormats all_roles(const WeightFormat& format) {
  return {.router = &format,
          .shared_gate = &format,
          .gate = &format,
          .up = &format,
          .multiplier = &format,
          .down = &format,
          .shared = {}};
}

LayerDescription small_layer() {
  LayerDescription layer;
  layer.hidden = 45;
  layer.intermediate = 38;
  layer.experts = 9;
  layer.bank = {0, 9};
  layer.gating.top_k = 3;
  layer.formats = all_roles(kBF16Format);
  return layer;
}

LayerProblem of_tokens(const LayerDescription& layer, int64_t tokens, DType x, bool aligned) {
  return {.tokens = tokens,
          .choices = layer.gating.top_k,
          .max_choices = tokens * layer.gating.top_k,
          .x = x,
          .x_aligned = aligned,
          .allowed = {}};
}

LayerPlan planned(const LayerDescription& layer, const LayerProblem& problem) {
  LayerPlan plan;
  MOE_CHECK(plan_layer(layer, problem, kH100, &plan).ok());
  return plan;
}

MOE_TEST(a_layers_state_and_workspace_have_a_place_for_every_part) {
  const LayerPlan plan = planned(small_layer(), of_tokens(small_layer(), 13, DType::bf16, false));
  const ProductPlan &gate_up = plan.products.front(), &down = plan.products.back();
  MOE_CHECK(gate_up.gemm.converts_x);
  MOE_CHECK_EQUAL(gate_up.gemm.x_pitch, 48);
  MOE_CHECK_EQUAL(plan.groups[0].inner_pitch, 40);
  MOE_CHECK_EQUAL(down.gemm.x_pitch, 40);
  MOE_CHECK(!down.gemm.converts_x);
  MOE_CHECK_EQUAL(tile_map(plan, down), tile_map(plan, gate_up));
  MOE_CHECK(plan.rows_dtype == DType::bf16);
  check_parts({{plan.logits, 13 * 9 * 4},
               {plan.ids, 39 * 4},
               {plan.weights, 39 * 4},
               {plan.offsets, 10 * 4},
               {plan.tokens_per_expert, 9 * 4},
               {plan.token_of_row, 39 * 4},
               {plan.row_of_slot, 39 * 4},
               {tile_map(plan, gate_up), gate_up.gemm.tile_map_bytes},
               {plan.inner, 39 * 40 * 2},
               {plan.rows, 39 * 45 * 2}},
              plan.state_bytes);
  check_parts({{plan.sort_counts, plan.sort.workspace_bytes}, {gate_up.x, 13 * 48 * 2}}, plan.workspace_bytes);
}

MOE_TEST(a_state_has_a_place_for_the_slots_of_shared_experts_and_the_weights_of_inputs) {
  LayerDescription layer = small_layer();
  layer.shared_experts = 2;
  layer.shared_gate = SharedGate::softmax;
  layer.weight_on = WeightPlace::input;
  layer.output_activation = OutputActivation::softmax;
  const LayerPlan plan = planned(layer, of_tokens(layer, 13, DType::bf16, false));
  MOE_CHECK(plan.rows_dtype == DType::f32);
  MOE_CHECK(plan.sort.units * plan.sort.slots_per_unit >= 13 * 5);
  const ProductPlan& gate_up = plan.products.front();
  MOE_CHECK_EQUAL(gate_up.gemm.max_row_tiles, max_row_tiles(13 * 5, 11, gate_up.gemm.tile.rows));
  check_parts({{plan.logits, 13 * 9 * 4},
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
               {tile_map(plan, gate_up), gate_up.gemm.tile_map_bytes},
               {plan.inner, 65 * 40 * 2},
               {plan.rows, 65 * 45 * 4}},
              plan.state_bytes);
  check_parts({{plan.sort_counts, plan.sort.workspace_bytes}, {gate_up.x, 13 * 48 * 2}}, plan.workspace_bytes);
}

MOE_TEST(a_bank_without_the_shared_experts_has_a_place_for_slots_that_their_softmax_gate_weighs) {
  LayerDescription layer = small_layer();
  layer.bank = {4, 5};
  const LayerPlan plain = planned(layer, of_tokens(layer, 13, DType::bf16, false));
  MOE_CHECK_EQUAL(plain.slot_ids, plain.offsets);
  layer.shared_gate = SharedGate::softmax;
  const LayerPlan plan = planned(layer, of_tokens(layer, 13, DType::bf16, false));
  check_parts(
      {{plan.shared_gate, 13 * 2 * 4}, {plan.slot_ids, 39 * 4}, {plan.slot_weights, 39 * 4}, {plan.offsets, 6 * 4}},
      plan.state_bytes);
}

MOE_TEST(rows_are_as_many_as_choices_at_most) {
  LayerDescription layer = small_layer();
  layer.shared_experts = 2;
  LayerProblem problem = of_tokens(layer, 1000, DType::bf16, true);
  const LayerPlan whole = planned(layer, problem);
  MOE_CHECK_EQUAL(whole.row_count, 5000);
  problem.max_choices = 100;
  const LayerPlan plan = planned(layer, problem);
  MOE_CHECK_EQUAL(plan.row_count, 2100);
  const GemmPlan& gate_up = plan.products.front().gemm;
  MOE_CHECK_EQUAL(gate_up.max_row_tiles, max_row_tiles(2100, layer.all_experts(), gate_up.tile.rows));
  MOE_CHECK_EQUAL(static_cast<int64_t>(plan.state_bytes - plan.rows) / 1024, 2100 * 45 * 2 / 1024);
  problem.max_choices = 9999;
  MOE_CHECK_EQUAL(planned(layer, problem).row_count, 5000);
}

MOE_TEST(a_layer_takes_no_more_memory_for_parts_that_it_lacks) {
  const auto bytes = [](const LayerDescription& layer) {
    return bytes_of(planned(layer, of_tokens(layer, 1000, DType::bf16, false)));
  };
  LayerDescription layer = small_layer();
  const size_t plain = bytes(layer);
  // The multiplier's product takes the place of the activation's, which multiplies it.
  layer.multiplier = true;
  MOE_CHECK_EQUAL(bytes(layer), plain);
  layer.weight_on = WeightPlace::input;
  MOE_CHECK(bytes(layer) >= plain + 3000 * 4 && bytes(layer) < plain + 3000 * 4 + 256);
  layer.shared_experts = 1;
  const size_t ungated = bytes(layer);
  layer.shared_gate = SharedGate::sigmoid;
  MOE_CHECK(bytes(layer) >= ungated + 1000 * 4 && bytes(layer) < ungated + 1000 * 4 + 256);
}

MOE_TEST(the_multipliers_product_has_the_tiles_and_the_operand_of_gate_and_up) {
  LayerDescription layer = small_layer();
  layer.multiplier = true;
  for (const int64_t tokens : {0, 1, 40, 1000, 50000}) {
    for (const DType x : {DType::f32, DType::f16, DType::bf16}) {
      const LayerPlan plan = planned(layer, of_tokens(layer, tokens, x, true));
      MOE_CHECK_EQUAL(plan.products.size(), 3u);
      const GemmPlan &multiplier = plan.products[0].gemm, &gate_up = plan.products[1].gemm;
      MOE_CHECK_EQUAL(plan.products[0].map, plan.products[1].map);
      MOE_CHECK_EQUAL(plan.products[0].x, plan.products[1].x);
      MOE_CHECK_EQUAL(multiplier.tile.rows, gate_up.tile.rows);
      MOE_CHECK_EQUAL(multiplier.max_row_tiles, gate_up.max_row_tiles);
      MOE_CHECK_EQUAL(multiplier.converts_x, gate_up.converts_x);
      MOE_CHECK(multiplier.x_dtype() == gate_up.x_dtype());
      MOE_CHECK_EQUAL(multiplier.x_pitch, gate_up.x_pitch);
      MOE_CHECK(multiplier.kernel == gate_up.kernel);
    }
  }
}

MOE_TEST(float32_layers_keep_float32_between_the_products) {
  LayerDescription layer;
  layer.hidden = 64;
  layer.intermediate = 32;
  layer.experts = 4;
  layer.bank = {0, 4};
  layer.formats = all_roles(kBF16Format);
  const LayerPlan plan = planned(layer, of_tokens(layer, 10, DType::f32, true));
  MOE_CHECK(plan.groups[0].inner_dtype == DType::f32);
  MOE_CHECK_EQUAL(std::string(plan.products.back().gemm.kernel->name), "fma_bf16");
}

MOE_TEST(each_role_is_planned_in_its_own_format) {
  LayerDescription layer = small_layer();
  layer.formats.gate = &kF32Format;
  layer.formats.down = &kF16Format;
  const LayerPlan plan = planned(layer, of_tokens(layer, 13, DType::bf16, true));
  MOE_CHECK_EQUAL(plan.products.size(), 3u);
  const GemmPlan &gate = plan.products[0].gemm, &up = plan.products[1].gemm, &down = plan.products[2].gemm;
  MOE_CHECK_EQUAL(std::string(gate.kernel->name), "fma_f32");
  MOE_CHECK(gate.converts_x);
  MOE_CHECK_EQUAL(std::string(up.kernel->name), "wgmma_bf16");
  MOE_CHECK(!up.converts_x);
  MOE_CHECK_EQUAL(std::string(down.kernel->name), "fma_f16");
  MOE_CHECK(plan.groups[0].inner_dtype == DType::f32);
  MOE_CHECK_EQUAL(plan.converted.size(), 1u);
}

MOE_TEST(shared_experts_have_a_clamp_of_their_own) {
  LayerDescription layer = small_layer();
  layer.activation = Activation::swiglu_clamped;
  layer.shared_experts = 2;
  layer.clamp.limit = 3;
  layer.shared_clamp.limit = 5;
  const auto limit = [&](size_t product, int64_t expert) {
    return layer_products(layer)[product].product.clamps.of(expert).limit;
  };
  MOE_CHECK_EQUAL(limit(0, layer.bank.count - 1), 3);
  MOE_CHECK_EQUAL(limit(0, layer.bank.count), 5);
  layer.formats.shared = layer.formats.experts();
  MOE_CHECK_EQUAL(limit(0, layer.bank.count - 1), 3);
  MOE_CHECK_EQUAL(limit(2, 0), 5);
}

MOE_TEST(a_gate_of_another_format_is_a_product_of_its_own) {
  LayerDescription layer = small_layer();
  layer.activation = Activation::swiglu_clamped;
  MOE_CHECK_EQUAL(layer_products(layer).size(), 2u);
  layer.formats.gate = &kF32Format;
  const std::vector<LayerProduct> products = layer_products(layer);
  MOE_CHECK_EQUAL(products.size(), 3u);
  MOE_CHECK(products[0].role == ProductRole::gate && products[0].product.part == ActivationPart::gate);
  MOE_CHECK(products[1].role == ProductRole::up && products[1].product.part == ActivationPart::up);
  for (const LayerProduct& each : {products[0], products[1]}) {
    MOE_CHECK_EQUAL(each.product.rows, layer.intermediate);
    MOE_CHECK_EQUAL(each.product.outputs(), layer.intermediate);
  }
  layer.activation = Activation::relu;
  MOE_CHECK_EQUAL(layer_products(layer).size(), 2u);
}

MOE_TEST(shared_experts_in_other_formats_are_products_of_their_own) {
  LayerDescription layer = small_layer();
  layer.shared_experts = 2;
  const LayerProblem problem = of_tokens(layer, 13, DType::bf16, true);
  MOE_CHECK_EQUAL(layer_products(layer).size(), 2u);
  layer.formats.shared = ExpertFormats{.gate = &kF32Format, .up = &kBF16Format, .multiplier = &kF32Format};
  const std::vector<LayerProduct> products = layer_products(layer);
  MOE_CHECK_EQUAL(products.size(), 5u);
  MOE_CHECK(products[1].role == ProductRole::down && products[1].product.experts == 9);
  MOE_CHECK(products[2].role == ProductRole::gate && products[2].product.experts == 2);
  const LayerPlan plan = planned(layer, problem);
  MOE_CHECK_EQUAL(plan.groups.size(), 2u);
  MOE_CHECK_EQUAL(plan.groups[1].experts.first, 9);
  // Both kinds of inner activations take the same memory, in rows of the wider.
  MOE_CHECK(plan.groups[0].inner_dtype == DType::bf16 && plan.groups[1].inner_dtype == DType::f32);
  MOE_CHECK_EQUAL(plan.groups[0].inner_pitch, 80);
  MOE_CHECK_EQUAL(plan.groups[1].inner_pitch, 40);
  MOE_CHECK(plan.rows_dtype == DType::f32);
  for (const ProductPlan& product : plan.products) MOE_CHECK_EQUAL(plan.maps[product.map].group, product.group);
}

MOE_TEST(products_that_change_their_inputs_gather_rows) {
  LayerDescription layer = small_layer();
  layer.separate_gate = true;
  LayerProblem problem = of_tokens(layer, 13, DType::bf16, false);
  const LayerPlan before = planned(layer, problem);
  MOE_CHECK_EQUAL(before.products.size(), 3u);
  problem.inputs = {InputUse::reordered, InputUse::scaled, InputUse::as_they_are};
  const LayerPlan plan = planned(layer, problem);
  const GemmPlan &gate = plan.products[0].gemm, &up = plan.products[1].gemm;
  MOE_CHECK_EQUAL(std::string(gate.kernel->name), "wgmma_bf16");
  // Not rounded once more.
  MOE_CHECK_EQUAL(std::string(up.kernel->name), "fma_bf16");
  for (const GemmPlan* gemm : {&gate, &up}) MOE_CHECK(!gemm->converts_x);
  MOE_CHECK_EQUAL(gate.x_pitch, 48);
  check_parts({{plan.sort_counts, plan.sort.workspace_bytes}, {plan.gathered, 39 * 48 * 4}}, plan.workspace_bytes);
}

MOE_TEST(products_of_codes_take_their_own_kernel_or_that_for_bfloat16) {
  LayerDescription layer = small_layer();
  layer.hidden = 300;
  layer.separate_gate = true;
  layer.formats.gate = find_format("i4_g32_bf16");
  layer.formats.up = find_format("e4m3_b128_f32");
  layer.formats.down = find_format("mxfp4");
  LayerProblem problem = of_tokens(layer, 13, DType::f32, false);
  problem.inputs = {InputUse::coded, InputUse::coded, InputUse::coded};
  const auto plan_for = [&](TokenFormat tokens) {
    layer.tokens = tokens;
    return planned(layer, problem);
  };
  const auto name = [](const ProductPlan& product) { return std::string(product.gemm.kernel->name); };
  const LayerPlan int8 = plan_for(TokenFormat::int8), fp8 = plan_for(TokenFormat::fp8);
  MOE_CHECK_EQUAL(name(int8.products[0]), "wgmma_quantized_int8");
  MOE_CHECK_EQUAL(name(int8.products[1]), "wgmma_quantized_bf16");
  MOE_CHECK_EQUAL(name(int8.products[2]), "wgmma_quantized_int8");
  for (const ProductPlan& product : fp8.products) MOE_CHECK_EQUAL(name(product), "wgmma_quantized_bf16");
  // Bytes in whole vectors.
  MOE_CHECK_EQUAL(int8.products[0].gemm.x_pitch, 304);
  MOE_CHECK_EQUAL(fp8.products[1].row_scales, 3);
  // What becomes codes is not rounded before.
  MOE_CHECK(int8.groups[0].inner_dtype == DType::f32 && fp8.groups[0].inner_dtype == DType::f32);
  check_parts(
      {{int8.sort_counts, int8.sort.workspace_bytes}, {int8.gathered, 39 * 304 * 2}, {int8.row_factors, 39 * 4}},
      int8.workspace_bytes);
  check_parts(
      {{fp8.sort_counts, fp8.sort.workspace_bytes}, {fp8.gathered, 39 * 304 * 2}, {fp8.row_factors, 3 * 39 * 4}},
      fp8.workspace_bytes);
}

MOE_TEST(codes_of_fp8_are_bytes_where_their_sums_may_be_a_tensor_cores) {
  LayerDescription layer = small_layer();
  layer.hidden = 300;
  layer.tokens = TokenFormat::fp8;
  layer.formats = all_roles(*find_format("e4m3_b128_f32"));
  LayerProblem problem = of_tokens(layer, 13, DType::f32, false);
  problem.inputs = {InputUse::coded, InputUse::coded};
  problem.allowed.fp8_sums = true;
  LayerPlan plan;
  MOE_CHECK(plan_layer(layer, problem, kL40S, &plan).ok());
  for (const ProductPlan& product : plan.products) {
    MOE_CHECK_EQUAL(std::string(product.gemm.kernel->name), "mma_quantized_fp8");
  }
  check_parts(
      {{plan.sort_counts, plan.sort.workspace_bytes}, {plan.gathered, 39 * 304}, {plan.row_factors, 3 * 39 * 4}},
      plan.workspace_bytes);
}

// bfloat16 tokens with float32 weights pass float32 on to the second product, where tf32 would round what was exact.
MOE_TEST(the_tokens_decide_whether_tf32_may_be_used) {
  LayerDescription layer = small_layer();
  layer.formats = {};
  LayerProblem problem = of_tokens(layer, 13, DType::bf16, true);
  problem.allowed.tf32 = true;
  MOE_CHECK_EQUAL(std::string(planned(layer, problem).products.back().gemm.kernel->name), "fma_f32");
  problem.x = DType::f32;
  MOE_CHECK_EQUAL(std::string(planned(layer, problem).products.back().gemm.kernel->name), "mma_tf32");
}

MOE_TEST(what_stages_do_not_need_takes_no_memory) {
  const LayerDescription layer = small_layer();
  LayerProblem problem = of_tokens(layer, 1000, DType::bf16, true);
  problem.stages = kLogitsStages;
  problem.logits_given = true;
  MOE_CHECK_EQUAL(bytes_of(planned(layer, problem)), 0u);
  problem.logits_given = false;
  problem.stages = kRouteStages;
  problem.ids_given = true;
  MOE_CHECK(bytes_of(planned(layer, problem)) < 1000 * 9 * 4 + 256);
  MOE_CHECK(planned(layer, problem).products.empty());
  problem.stages = kRoutedStages;
  const size_t routed = bytes_of(planned(layer, problem));
  problem.stages = kForwardStages;
  problem.ids_given = false;
  MOE_CHECK(bytes_of(planned(layer, problem)) >= routed + 1000 * (9 + 3 + 3) * 4);
}

MOE_TEST(lists_of_stages_take_their_parts_of_what_all_take) {
  LayerDescription layer = small_layer();
  layer.formats.gate = &kF32Format;
  LayerProblem problem = of_tokens(layer, 100, DType::bf16, true);
  const LayerPlan whole = planned(layer, problem);
  const Stages all = kForwardStages;
  for (size_t i = 0; i <= all.size(); ++i) {
    problem.stages = all.first(i);
    const LayerPlan before = planned(layer, problem);
    problem.stages = all.subspan(i);
    const LayerPlan after = planned(layer, problem);
    MOE_CHECK_EQUAL(before.state_bytes + after.state_bytes, whole.state_bytes);
    MOE_CHECK_EQUAL(before.workspace_bytes + after.workspace_bytes, whole.workspace_bytes);
    // What sort maps for the products, they find.
    for (const LayerPlan* plan : {&before, &after}) {
      for (size_t product = 0; product < plan->products.size(); ++product) {
        MOE_CHECK_EQUAL(plan->products[product].map, whole.products[product].map);
      }
    }
  }
}

}  // namespace
}  // namespace moe::gpu::test
