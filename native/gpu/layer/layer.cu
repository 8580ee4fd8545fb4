#include "gpu/layer/layer.h"

#include "gpu/experts/combine.cuh"
#include "gpu/experts/shared_slots.cuh"
#include "gpu/experts/softmax_rows.cuh"
#include "gpu/gemm/grouped_gemm.cuh"
#include "gpu/gemm/pack.cuh"
#include "gpu/plan/views.h"
#include "gpu/routing/gating.cuh"
#include "gpu/routing/router_projection.cuh"
#include "gpu/routing/sort.cuh"

namespace moe::MOE_GPU_NAMESPACE {

Status GpuLayer::create(const LayerDescription& description, Context& context, std::unique_ptr<Layer>* layer) {
  const LayerDescription& d = description;
  std::unique_ptr<GpuLayer> made(new GpuLayer(d, context));
  Runtime& runtime = *context.runtime;
  const auto make = [&](int64_t rows, int64_t columns, const WeightFormat* format, Activation activation,
                        auto* packed) {
    return GpuPackedExperts::create({d.all_experts(), rows, columns, format, activation, d.clamp}, runtime, packed);
  };
  MOE_TRY(make(d.gate_up_rows(), d.hidden, d.formats.up, d.activation, &made->gate_up_));
  if (d.factor) MOE_TRY(make(d.intermediate, d.hidden, d.formats.factor, Activation::none, &made->factor_));
  MOE_TRY(make(d.hidden, d.intermediate, d.formats.down, Activation::none, &made->down_));
  MOE_TRY(StageClock::create(runtime, &made->clock_));
  *layer = std::move(made);
  return {};
}

GpuLayer::~GpuLayer() {
  for (const TensorView& parameter : parameters_) {
    if (parameter.data != nullptr) runtime().release(parameter.data);
  }
}

size_t GpuLayer::bytes() const {
  return gate_up_->bytes() + (factor_ != nullptr ? factor_->bytes() : 0) + down_->bytes() + parameter_bytes_;
}

DType GpuLayer::parameter_dtype(Parameter parameter) const {
  switch (parameter) {
    case kRouter: return plain_dtype(*description().formats.router);
    case kSharedGate: return plain_dtype(*description().formats.shared_gate);
    case kSelectionBias: return DType::f32;
    default: return description().bias_dtype;
  }
}

Status GpuLayer::keep(Parameter parameter, int64_t rows, int64_t columns, const MatrixView& source, int64_t row,
                      int64_t column) {
  if (source.absent()) return {};
  const DType dtype = parameter_dtype(parameter);
  TensorView& kept = parameters_[parameter];
  if (kept.absent()) {
    TensorView made = gpu::matrix_view(nullptr, dtype, rows, columns);
    MOE_TRY(runtime().allocate(static_cast<size_t>(made.bytes()), &made.data));
    kept = made;
    parameter_bytes_ += static_cast<size_t>(made.bytes());
    MOE_TRY(runtime().fill(made.data, 0, static_cast<size_t>(made.bytes())));
  }
  char* place = kept.as<char>() + (row * columns + column) * static_cast<int64_t>(info(dtype).bytes);
  return launch_pack_rows(source, {}, {place, dtype, source.rows, source.columns}, runtime().traits(),
                          runtime().stream());
}

Status GpuLayer::set_router(const WeightView& weight, const MatrixView& bias) {
  const LayerDescription& d = description();
  MOE_TRY(runtime().use());
  MOE_TRY(keep(kRouter, d.experts, d.hidden, weight.codes));
  return keep(kRouterBias, 1, d.experts, bias);
}

Status GpuLayer::set_selection_bias(const MatrixView& bias) {
  MOE_TRY(runtime().use());
  return keep(kSelectionBias, 1, description().experts, bias);
}

Status GpuLayer::set_shared_gate(const WeightView& weight, const MatrixView& bias) {
  const LayerDescription& d = description();
  MOE_TRY(runtime().use());
  MOE_TRY(keep(kSharedGate, d.shared_gate_rows(), d.hidden, weight.codes));
  return keep(kSharedGateBias, 1, d.shared_gate_rows(), bias);
}

Status GpuLayer::set_expert(int64_t expert, const ExpertViews& weights) {
  const LayerDescription& d = description();
  const bool gated = is_gated(d.activation);
  const int64_t experts = d.all_experts();
  const int64_t rows = d.gate_up_rows();
  MOE_TRY(runtime().use());
  MOE_TRY(gate_up_->set_expert(expert, gated ? weights.gate : weights.up, gated ? weights.up : WeightView{}));
  if (d.factor) MOE_TRY(factor_->set_expert(expert, weights.factor, {}));
  MOE_TRY(down_->set_expert(expert, weights.down, {}));
  MOE_TRY(keep(kGateUpBias, experts, rows, weights.gate_bias, expert, 0));
  MOE_TRY(keep(kGateUpBias, experts, rows, weights.up_bias, expert, rows - d.intermediate));
  return keep(kDownBias, experts, d.hidden, weights.down_bias, expert);
}

Status GpuLayer::run(Stages stages, const LayerForward& f) {
  if (contains(stages, Stage::combine)) return forward(f);
  return contains(stages, Stage::gating) ? route(f.x, f.ids, f.weights) : logits(f.x, f.logits);
}

Status GpuLayer::logits(const TensorView& x, const TensorView& logits) {
  MOE_TRY(runtime().use());
  return launch_router_projection({x, parameters_[kRouter], parameters_[kRouterBias], logits}, runtime().traits(),
                                  runtime().stream());
}

Status GpuLayer::route_tokens(const TensorView& x, const TensorView& logits, const Slots& chosen, const Pass& pass) {
  MOE_TRY(launch_router_projection({x, parameters_[kRouter], parameters_[kRouterBias], logits}, runtime().traits(),
                                   pass.stream));
  MOE_TRY(pass.mark(kRouted));
  return launch_gating({logits, parameters_[kSelectionBias], chosen.ids, chosen.weights, description().gating},
                       context_.errors.non_finite_rows(), runtime().traits(), pass.stream);
}

Status GpuLayer::route(const TensorView& x, const TensorView& ids, const TensorView& weights) {
  MOE_TRY(runtime().use());
  TensorView logits = gpu::matrix_view(nullptr, DType::f32, x.shape[0], description().experts);
  Scratch scratch(runtime());
  MOE_TRY(scratch.reserve(static_cast<size_t>(logits.bytes())));
  logits.data = scratch.at(0);
  return route_tokens(x, logits, {ids, weights}, {runtime().stream(), scratch.at(0), context_.errors, nullptr});
}

Status GpuLayer::choose(const LayerForward& f, const gpu::LayerPlan& plan, const Pass& pass, Slots* slots) {
  const LayerDescription& d = description();
  const gpu::DeviceTraits& traits = runtime().traits();
  const int64_t tokens = f.x.shape[0];
  const auto matrix = [&](size_t part, DType dtype, int64_t columns) {
    return gpu::matrix_view(pass.at(part), dtype, tokens, columns);
  };
  const TensorView gate = matrix(plan.shared_gate, DType::f32, d.shared_gate_rows());
  if (d.shared_gate != SharedGate::none) {
    MOE_TRY(launch_router_projection({f.x, parameters_[kSharedGate], parameters_[kSharedGateBias], gate}, traits,
                                     pass.stream));
  }
  Slots chosen{f.ids, f.weights};
  if (chosen.ids.absent()) {
    chosen = {matrix(plan.ids, DType::i32, d.gating.top_k), matrix(plan.weights, DType::f32, d.gating.top_k)};
    MOE_TRY(route_tokens(f.x, matrix(plan.logits, DType::f32, d.experts), chosen, pass));
  } else {
    MOE_TRY(pass.mark(kRouted));
  }
  if (d.shared_experts == 0) {
    *slots = chosen;
    return {};
  }
  const int64_t choices = f.choices(d);
  *slots = {matrix(plan.slot_ids, DType::i32, d.slots(choices)),
            matrix(plan.slot_weights, DType::f32, d.slots(choices))};
  gpu::IdError* error =
      pass.errors.next({.parameter = "forward: ids", .what = "an expert", .limit = d.experts, .columns = choices});
  return launch_shared_slots({chosen.ids, chosen.weights, gate, slots->ids, slots->weights, d.experts, d.shared_gate},
                             error, traits, pass.stream);
}

Status GpuLayer::sort(const Slots& slots, const gpu::LayerPlan& plan, const Pass& pass, Rows* sorted) {
  const int64_t experts = description().all_experts();
  const int64_t size = slots.ids.size();
  const auto ints = [&](size_t part, int64_t size) { return gpu::vector_view(pass.at(part), DType::i32, size); };
  sorted->offsets = ints(plan.offsets, experts + 1);
  sorted->token_of_row = ints(plan.token_of_row, size);
  sorted->row_of_slot = slots.ids;
  sorted->row_of_slot.data = pass.at(plan.row_of_slot);
  SortedWeights weights;
  if (description().weight_on == WeightPlace::input) {
    sorted->weight_of_row = gpu::vector_view(pass.at(plan.weight_of_row), DType::f32, size);
    weights = {slots.weights.as<float>(), sorted->weight_of_row.as<float>()};
  }
  gpu::IdError* error = pass.errors.next(
      {.parameter = "forward: ids", .what = "an expert", .limit = experts, .columns = slots.ids.shape[1]});
  MOE_TRY(launch_sort(
      {slots.ids, sorted->offsets, ints(plan.tokens_per_expert, experts), sorted->token_of_row, sorted->row_of_slot},
      weights, plan.sort, pass.at(plan.sort_counts), error, pass.stream));
  const auto build_map = [&](const gpu::GemmPlan& gemm, size_t map) -> Status {
    error = pass.errors.next({.parameter = "forward: offsets", .what = nullptr, .limit = plan.row_count, .columns = 0});
    return launch_tile_map(sorted->offsets.as<int>(), experts, plan.row_count, gemm.tile.rows, pass.at(map), error,
                           runtime().traits().max_threads, pass.stream);
  };
  MOE_TRY(build_map(plan.gate_up, plan.gate_up_map));
  return plan.down_map != plan.gate_up_map ? build_map(plan.down, plan.down_map) : Status{};
}

Status GpuLayer::multiply(const Product& product, const TensorView& x, const TensorView& y, const Pass& pass) {
  GroupedGemmOperands operands{.input = {.x = x.data, .rows = x.shape[0]},
                               .weight = product.weight.data(),
                               .weights = product.weight.weights(),
                               .bias = product.bias,
                               .result = {.y = y.data,
                                          .dtype = y.dtype,
                                          .pitch = y.shape[1],
                                          .weight_of_row = product.weight_of_row.as<float>(),
                                          .multiplies_y = product.multiplies_y}};
  if (!product.token_of_row.absent()) {
    operands.input.token_of_row = product.token_of_row.as<int>();
    operands.input.token_error =
        pass.errors.next({.parameter = "forward: token of row", .what = "a row", .limit = x.shape[0], .columns = 0});
  }
  return launch_grouped_gemm(operands, product.plan, pass.at(product.map), pass.stream);
}

// inner = act(gate x) * (up x) * (factor x): the factor's product comes first, and the other multiplies it.
Status GpuLayer::multiply_inner(const TensorView& given, const Rows& rows, const TensorView& inner,
                                const gpu::LayerPlan& plan, const Pass& pass) {
  TensorView x = given;
  if (plan.gate_up.converts_x) {
    x = gpu::matrix_view(pass.at(plan.converted_x), plan.gate_up.x_dtype, given.shape[0], plan.gate_up.x_pitch);
    MOE_TRY(launch_pack_rows(whole_matrix(given), {}, {x.data, x.dtype, x.shape[0], x.shape[1]}, runtime().traits(),
                             pass.stream));
  }
  if (factor_ != nullptr) {
    const Product factor{*factor_, {}, plan.factor, plan.gate_up_map, rows.token_of_row, rows.weight_of_row};
    MOE_TRY(multiply(factor, x, inner, pass));
  }
  return multiply({*gate_up_, parameters_[kGateUpBias], plan.gate_up, plan.gate_up_map, rows.token_of_row,
                   rows.weight_of_row, factor_ != nullptr},
                  x, inner, pass);
}

Status GpuLayer::plan(const LayerForward& f, gpu::LayerPlan* plan) const {
  const LayerDescription& d = description();
  const int64_t tokens = f.x.shape[0];
  const int64_t choices = f.choices(d);
  MOE_TRY(gpu::check_rows("forward: x", tokens * d.slots(choices)));
  const int64_t max_choices = f.max_choices >= 0 ? f.max_choices : tokens * choices;
  *plan = gpu::plan_layer(d, {tokens, choices, max_choices, f.x.dtype, gpu::rows_aligned(f.x), context_.tf32},
                          runtime().traits());
  return {};
}

Status GpuLayer::forward(const LayerForward& f) {
  MOE_TRY(runtime().use());
  gpu::LayerPlan planned;
  MOE_TRY(plan(f, &planned));
  Scratch scratch(runtime());
  MOE_TRY(scratch.reserve(planned.workspace_bytes));
  return enqueue(f, planned, {runtime().stream(), scratch.at(0), context_.errors, clock_.get()});
}

Status GpuLayer::enqueue(const LayerForward& f, const gpu::LayerPlan& plan, const Pass& pass) {
  const LayerDescription& d = description();
  const gpu::DeviceTraits& traits = runtime().traits();
  MOE_TRY(pass.mark(kBegin));
  Slots slots;
  MOE_TRY(choose(f, plan, pass, &slots));
  MOE_TRY(pass.mark(kGated));
  Rows sorted;
  MOE_TRY(sort(slots, plan, pass, &sorted));
  MOE_TRY(pass.mark(kSorted));

  const int64_t rows = plan.row_count;
  const TensorView inner = gpu::matrix_view(pass.at(plan.inner), plan.inner_dtype, rows, plan.inner_pitch);
  MOE_TRY(multiply_inner(f.x, sorted, inner, plan, pass));
  MOE_TRY(pass.mark(kGateUp));

  const TensorView outputs = gpu::matrix_view(pass.at(plan.rows), plan.rows_dtype, rows, d.hidden);
  MOE_TRY(multiply({*down_, parameters_[kDownBias], plan.down, plan.down_map}, inner, outputs, pass));
  if (d.output_activation == OutputActivation::softmax) MOE_TRY(launch_softmax_rows(outputs, traits, pass.stream));
  MOE_TRY(pass.mark(kDown));

  const bool weighted = d.weight_on == WeightPlace::output;
  gpu::IdError* error = pass.errors.next(
      {.parameter = "forward: row of slot", .what = "a row", .limit = rows, .columns = slots.ids.shape[1]});
  MOE_TRY(launch_combine({outputs, sorted.row_of_slot, weighted ? slots.weights : TensorView{}, f.y}, error, traits,
                         pass.stream));
  return pass.mark(kCombined);
}

// A graph of the launches of one forward, and the memory that they use.
class GpuLayer::Captured final : public CapturedForward {
 public:
  Captured(GpuLayer& layer, const LayerForward& forward)
      : layer_(layer), forward_(forward), workspace_(layer.runtime()), errors_(layer.runtime()) {}

  Status record() {
    MOE_TRY(layer_.runtime().use());
    gpu::LayerPlan plan;
    MOE_TRY(layer_.plan(forward_, &plan));
    MOE_TRY(workspace_.reserve(plan.workspace_bytes));
    MOE_TRY(errors_.open());
    return layer_.runtime().record(
        [&](Stream stream) {
          return layer_.enqueue(forward_, plan, {stream, workspace_.at(0), errors_, nullptr});
        },
        &graph_);
  }

  Status replay() override { return layer_.runtime().launch(*graph_); }

 private:
  GpuLayer& layer_;
  LayerForward forward_;
  Scratch workspace_;
  // Places of its own for the launches to write to, as the device's pass on to others at each wait. Nobody reads them:
  // whoever gives ids gives none out of range.
  DataErrors errors_;
  std::shared_ptr<const Graph> graph_;
};

Status GpuLayer::capture(Stages, const LayerForward& forward, std::unique_ptr<CapturedForward>* captured) {
  auto made = std::make_unique<Captured>(*this, forward);
  MOE_TRY(made->record());
  *captured = std::move(made);
  return {};
}

StageTimes GpuLayer::stage_times() const {
  StageTimes times;
  const auto between = [&](Stage stage, Mark from, Mark to) { times[stage] = clock_->seconds(from, to); };
  between(Stage::router, kBegin, kRouted);
  between(Stage::gating, kRouted, kGated);
  between(Stage::sort, kGated, kSorted);
  between(Stage::gate_up, kSorted, kGateUp);
  between(Stage::down, kGateUp, kDown);
  between(Stage::combine, kDown, kCombined);
  return times;
}

}  // namespace moe::MOE_GPU_NAMESPACE
