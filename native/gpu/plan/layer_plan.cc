#include "gpu/plan/layer_plan.h"

#include <algorithm>
#include <sstream>

#include "gpu/gemm/tile_map.h"
#include "gpu/plan/plan_parts.h"

namespace moe::gpu {
namespace {

size_t size_of(int64_t count, DType dtype) { return static_cast<size_t>(count) * info(dtype).bytes; }

// What a list of stages takes of the state and of the workspace.
struct StageParts {
  Stages stages;
  Parts state, workspace;

  bool runs(Stage stage) const { return contains(stages, stage); }
  // For results of a stage.
  size_t leave(Stage stage, size_t bytes) { return state.take(runs(stage) ? bytes : 0); }
  // For a stage's own use.
  size_t use(Stage stage, size_t bytes) { return workspace.take(runs(stage) ? bytes : 0); }
};

// Places each product's converted x and tile map; products share them where they can.
void place_products(LayerPlan& plan, int64_t tokens, StageParts& parts) {
  for (ProductPlan& product : plan.products) {
    const GemmPlan& gemm = product.gemm;
    if (gemm.converts_x) {
      auto same = std::find_if(plan.converted.begin(), plan.converted.end(), [&](const ConvertedPlan& each) {
        return each.dtype == gemm.x_dtype() && each.pitch == gemm.x_pitch;
      });
      if (same == plan.converted.end()) {
        const size_t x = parts.use(Stage::gate_up, converted_bytes(gemm, tokens));
        same = plan.converted.insert(same, {.dtype = gemm.x_dtype(), .pitch = gemm.x_pitch, .x = x});
      }
      product.x = same->x;
    }
  }
  for (ProductPlan& product : plan.products) {
    const int tile_rows = product.gemm.tile.rows;
    auto same = std::find_if(plan.maps.begin(), plan.maps.end(),
                             [&](const TileMapPlan& each) { return each.tile_rows == tile_rows; });
    if (same == plan.maps.end()) {
      const size_t map = parts.leave(Stage::sort, product.gemm.tile_map_bytes);
      same = plan.maps.insert(same, {.tile_rows = tile_rows, .map = map});
    }
    product.map = static_cast<size_t>(same - plan.maps.begin());
  }
}

// Plans the products and the dtypes between them: what down multiplies is stored as down's kernel takes it.
Status plan_products(const LayerDescription& layer, const LayerProblem& problem, const DeviceTraits& traits,
                     LayerPlan* plan) {
  for (const LayerProduct& each : layer_products(layer)) {
    const ExpertProduct& product = each.product;
    const bool down = each.role == ProductRole::down;
    const GemmKernel* kernel = nullptr;
    MOE_TRY(find_gemm_kernel({.tokens = problem.x, .format = product.format, .tf32 = problem.tf32}, traits, &kernel));
    ProductPlan planned{};
    planned.gemm = kernel->plan(*kernel,
                                {.x = down ? kernel->x : problem.x,
                                 .format = product.format,
                                 .rows = plan->row_count,
                                 .experts = product.experts,
                                 .packed_rows = packed_rows(product),
                                 .columns = product.columns,
                                 .x_aligned = down || problem.x_aligned,
                                 .tf32 = problem.tf32},
                                traits);
    if (down) {
      plan->inner_dtype = kernel->x;
      plan->inner_pitch = whole_vectors(layer.intermediate, kernel->x);
      planned.gemm.x_pitch = plan->inner_pitch;
    }
    plan->products.push_back(planned);
  }
  // Softmax of rounded values would have relative errors that grow with the values.
  plan->rows_dtype = layer.output_activation == OutputActivation::softmax ? DType::f32 : plan->inner_dtype;
  return {};
}

// Places what the stages from sort on leave.
Status plan_experts(const LayerDescription& layer, const LayerProblem& problem, const DeviceTraits& traits,
                    StageParts& parts, LayerPlan* plan) {
  const int64_t experts = layer.all_experts();
  const int64_t chosen = problem.tokens * problem.choices;
  const int64_t slots = problem.tokens * layer.slots(problem.choices);
  plan->row_count = std::min(problem.max_choices, chosen) + (slots - chosen);
  plan->sort = plan_sort(slots, experts, traits);
  MOE_TRY(plan_products(layer, problem, traits, plan));

  const int64_t own_slots = layer.has_own_slots() ? slots : 0;
  const int64_t weighed_rows = layer.weight_on == WeightPlace::input ? slots : 0;
  plan->slot_ids = parts.leave(Stage::sort, size_of(own_slots, DType::i32));
  plan->slot_weights = parts.leave(Stage::sort, size_of(own_slots, DType::f32));
  plan->offsets = parts.leave(Stage::sort, size_of(experts + 1, DType::i32));
  plan->tokens_per_expert = parts.leave(Stage::sort, size_of(experts, DType::i32));
  plan->token_of_row = parts.leave(Stage::sort, size_of(slots, DType::i32));
  plan->weight_of_row = parts.leave(Stage::sort, size_of(weighed_rows, DType::f32));
  plan->row_of_slot = parts.leave(Stage::sort, size_of(slots, DType::i32));
  plan->sort_counts = parts.use(Stage::sort, plan->sort.workspace_bytes);
  place_products(*plan, problem.tokens, parts);
  plan->inner = parts.leave(Stage::gate_up, size_of(plan->row_count * plan->inner_pitch, plan->inner_dtype));
  plan->rows = parts.leave(Stage::down, size_of(plan->row_count * layer.hidden, plan->rows_dtype));
  return {};
}

}  // namespace

std::vector<LayerProduct> layer_products(const LayerDescription& layer) {
  const LayerFormats& formats = layer.formats;
  const auto inner = [&](ProductRole role, int64_t rows, const WeightFormat* format, Activation activation,
                         ActivationPart part) {
    return LayerProduct{role,
                        {.experts = layer.all_experts(),
                         .rows = rows,
                         .columns = layer.hidden,
                         .format = format,
                         .activation = activation,
                         .clamp = layer.clamp,
                         .part = part}};
  };
  const int64_t intermediate = layer.intermediate;
  constexpr ActivationPart kWhole = ActivationPart::whole;
  std::vector<LayerProduct> products;
  if (layer.factor) {
    products.push_back(inner(ProductRole::factor, intermediate, formats.factor, Activation::none, kWhole));
  }
  if (is_gated(layer.activation) && formats.gate != formats.up) {
    const Activation activation = layer.activation;
    products.push_back(inner(ProductRole::gate, intermediate, formats.gate, activation, ActivationPart::gate));
    products.push_back(inner(ProductRole::up, intermediate, formats.up, activation, ActivationPart::up));
  } else {
    products.push_back(inner(ProductRole::gate_up, layer.gate_up_rows(), formats.up, layer.activation, kWhole));
  }
  products.push_back(
      {ProductRole::down,
       {.experts = layer.all_experts(), .rows = layer.hidden, .columns = layer.intermediate, .format = formats.down}});
  return products;
}

Status plan_layer(const LayerDescription& layer, const LayerProblem& problem, const DeviceTraits& traits,
                  LayerPlan* plan) {
  const int64_t chosen = problem.tokens * problem.choices;
  *plan = {};
  StageParts parts{.stages = problem.stages, .state = {}, .workspace = {}};
  const int64_t logits = problem.logits_given ? 0 : problem.tokens * layer.experts;
  const int64_t ids = problem.ids_given ? 0 : chosen;
  plan->logits = parts.leave(Stage::router, size_of(logits, DType::f32));
  plan->ids = parts.leave(Stage::gating, size_of(ids, DType::i32));
  plan->weights = parts.leave(Stage::gating, size_of(ids, DType::f32));
  plan->shared_gate = parts.leave(Stage::shared_gate, size_of(problem.tokens * layer.shared_gate_rows(), DType::f32));
  if (parts.runs(Stage::sort) || parts.runs(Stage::gate_up) || parts.runs(Stage::down) || parts.runs(Stage::combine)) {
    MOE_TRY(plan_experts(layer, problem, traits, parts, plan));
  }
  plan->state_bytes = parts.state.end();
  plan->workspace_bytes = parts.workspace.end();
  return {};
}

std::string describe(const LayerPlan& plan) {
  std::ostringstream text;
  text << describe(plan.sort);
  for (const ProductPlan& product : plan.products) text << "\n" << describe(product.gemm);
  text << "\ninner " << info(plan.inner_dtype).name << " rows of " << plan.inner_pitch << ", state " << plan.state_bytes
       << ", workspace " << plan.workspace_bytes;
  return text.str();
}

}  // namespace moe::gpu
