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
void place_products(LayerPlan& plan, const LayerDescription& layer, int64_t tokens, StageParts& parts) {
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
    auto same = std::find_if(plan.maps.begin(), plan.maps.end(), [&](const TileMapPlan& each) {
      return each.group == product.group && each.tile_rows == tile_rows;
    });
    if (same == plan.maps.end()) {
      const size_t bytes = tile_map_bytes(plan.row_count, layer.all_experts(), tile_rows);
      const size_t map = parts.leave(Stage::sort, bytes);
      same = plan.maps.insert(same, {.group = product.group, .tile_rows = tile_rows, .map = map});
    }
    product.map = static_cast<size_t>(same - plan.maps.begin());
  }
}

// Places the rows that products gather, one product after another.
size_t place_gathered(const LayerPlan& plan, StageParts& parts) {
  size_t most = 0;
  for (const ProductPlan& product : plan.products) {
    if (product.inputs == InputUse::as_they_are) continue;
    const Stage stage = product.role == ProductRole::down ? Stage::down : Stage::gate_up;
    const size_t bytes = size_of(plan.row_count * product.gemm.x_pitch, product.gemm.x_dtype());
    if (parts.runs(stage)) most = std::max(most, bytes);
  }
  return parts.workspace.take(most);
}

// Places the scales of rows of codes, one product after another.
size_t place_row_factors(const LayerPlan& plan, StageParts& parts) {
  int64_t most = 0;
  for (const ProductPlan& product : plan.products) most = std::max(most, product.row_scales);
  return parts.workspace.take(size_of(plan.row_count * most, DType::f32));
}

// Plans the rows between the products of each group, and those behind them.
void plan_inner(const LayerDescription& layer, LayerPlan* plan) {
  const auto bytes = [](DType dtype) { return static_cast<int64_t>(info(dtype).bytes); };
  const DType first = plan->groups.front().inner_dtype;
  bool equal = true;
  for (const GroupPlan& group : plan->groups) {
    const int64_t row_bytes = whole_vectors(layer.intermediate, group.inner_dtype) * bytes(group.inner_dtype);
    plan->inner_row_bytes = std::max(plan->inner_row_bytes, row_bytes);
    equal = equal && group.inner_dtype == first;
  }
  for (GroupPlan& group : plan->groups) group.inner_pitch = plan->inner_row_bytes / bytes(group.inner_dtype);
  for (ProductPlan& product : plan->products) {
    const bool reads_inner = product.role == ProductRole::down && product.inputs == InputUse::as_they_are;
    if (reads_inner) product.gemm.x_pitch = plan->groups[product.group].inner_pitch;
  }
  // Softmax of rounded values would have relative errors that grow with the values.
  const bool softmax = layer.output_activation == OutputActivation::softmax;
  plan->rows_dtype = softmax || !equal ? DType::f32 : first;
}

// Plans the products and the dtypes between them: what down multiplies is stored as down's kernel takes it, or read as
// what becomes that.
Status plan_products(const LayerDescription& layer, const LayerProblem& problem, const DeviceTraits& traits,
                     LayerPlan* plan) {
  const std::vector<ExpertGroup> groups = layer.groups();
  const int64_t shared_rows = problem.tokens * layer.shared_experts;
  for (const ExpertGroup& group : groups) plan->groups.push_back({.experts = group.experts});
  for (const LayerProduct& each : layer_products(layer)) {
    const ExpertProduct& product = each.product;
    const bool down = each.role == ProductRole::down;
    ProductPlan planned{.role = each.role, .group = each.group};
    if (!problem.inputs.empty()) planned.inputs = problem.inputs[plan->products.size()];
    const TokenScheme scheme = product.token_scheme();
    const RowKind tokens = as_read(planned.inputs, scheme, problem.x);
    if (planned.inputs == InputUse::coded) planned.row_scales = scheme.scales_of(product.columns);
    const GemmKernel* kernel = nullptr;
    MOE_TRY(
        find_gemm_kernel({.tokens = tokens, .format = product.format, .allowed = problem.allowed}, traits, &kernel));
    // Rows that are made for the product are as its kernel wants them.
    const bool made = down || planned.inputs != InputUse::as_they_are;
    planned.gemm = kernel->plan(*kernel,
                                {.x = made ? kernel->x : problem.x,
                                 .format = product.format,
                                 .rows = groups.size() == 1 ? plan->row_count
                                         : each.group == 0  ? plan->row_count - shared_rows
                                                            : shared_rows,
                                 .experts = product.experts,
                                 .packed_rows = packed_rows(product),
                                 .columns = product.columns,
                                 .x_aligned = made || problem.x_aligned,
                                 .allowed = problem.allowed},
                                traits);
    if (made) planned.gemm.x_pitch = whole_vectors(product.columns, kernel->x);
    // What is rounded to 8 bits is not rounded before.
    if (down) plan->groups[each.group].inner_dtype = planned.inputs == InputUse::coded ? DType::f32 : kernel->x;
    plan->products.push_back(planned);
  }
  plan_inner(layer, plan);
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
  plan->gates_in_sort =
      parts.runs(Stage::gating) && parts.runs(Stage::sort) && gates_in_block(problem.tokens, plan->sort, traits);
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
  place_products(*plan, layer, problem.tokens, parts);
  plan->gathered = place_gathered(*plan, parts);
  plan->row_factors = place_row_factors(*plan, parts);
  plan->inner = parts.leave(Stage::gate_up, static_cast<size_t>(plan->row_count * plan->inner_row_bytes));
  plan->rows = parts.leave(Stage::down, size_of(plan->row_count * layer.hidden, plan->rows_dtype));
  return {};
}

void add_products(const LayerDescription& layer, const ExpertGroup& group, size_t index,
                  std::vector<LayerProduct>* products) {
  const ExpertFormats& formats = group.formats;
  const auto add = [&](ProductRole role, int64_t rows, const WeightFormat* format, Activation activation,
                       ActivationPart part) {
    products->push_back({role,
                         {.experts = group.experts.count,
                          .rows = rows,
                          .columns = role == ProductRole::down ? layer.intermediate : layer.hidden,
                          .format = format,
                          .activation = activation,
                          .clamps = layer.clamps(group.experts),
                          .part = part,
                          .tokens = layer.tokens},
                         index});
  };
  const int64_t intermediate = layer.intermediate;
  const Activation activation = layer.activation;
  constexpr ActivationPart kWhole = ActivationPart::whole;
  if (layer.multiplier) add(ProductRole::multiplier, intermediate, formats.multiplier, Activation::none, kWhole);
  if (layer.gate_apart(formats)) {
    add(ProductRole::gate, intermediate, formats.gate, activation, ActivationPart::gate);
    add(ProductRole::up, intermediate, formats.up, activation, ActivationPart::up);
  } else {
    add(ProductRole::gate_up, layer.gate_up_rows(), formats.up, activation, kWhole);
  }
  add(ProductRole::down, layer.hidden, formats.down, Activation::none, kWhole);
}

}  // namespace

std::vector<LayerProduct> layer_products(const LayerDescription& layer) {
  std::vector<LayerProduct> products;
  const std::vector<ExpertGroup> groups = layer.groups();
  for (size_t i = 0; i < groups.size(); ++i) add_products(layer, groups[i], i, &products);
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
  for (const GroupPlan& group : plan.groups) {
    text << "\ninner " << info(group.inner_dtype).name << " rows of " << group.inner_pitch;
  }
  text << ", state " << plan.state_bytes << ", workspace " << plan.workspace_bytes;
  return text.str();
}

}  // namespace moe::gpu
