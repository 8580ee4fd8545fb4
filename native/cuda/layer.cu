#include "cuda/layer.h"

#include "cuda/combine.cuh"
#include "cuda/gating.cuh"
#include "cuda/grouped_gemm.cuh"
#include "cuda/pack.cuh"
#include "cuda/router_projection.cuh"
#include "cuda/sort.cuh"
#include "cuda/views.h"

namespace moe::MOE_GPU_NAMESPACE {

Status GpuLayer::create(const LayerDescription& description, Context& context, std::unique_ptr<Layer>* layer) {
  const LayerDescription& d = description;
  std::unique_ptr<GpuLayer> made(new GpuLayer(d, context));
  Runtime& runtime = *context.runtime;
  MOE_TRY(GpuPackedExperts::create({d.experts, d.gate_up_rows(), d.hidden, d.weight_dtype, d.activation, d.clamp},
                                   runtime, &made->gate_up_));
  MOE_TRY(GpuPackedExperts::create({d.experts, d.hidden, d.intermediate, d.weight_dtype, Activation::none}, runtime,
                                   &made->down_));
  MOE_TRY(StageClock::create(runtime, &made->clock_));
  *layer = std::move(made);
  return {};
}

GpuLayer::~GpuLayer() {
  for (const TensorView& parameter : {router_, router_bias_, gate_up_bias_, down_bias_}) {
    if (parameter.data != nullptr) runtime().release(parameter.data);
  }
}

size_t GpuLayer::bytes() const {
  size_t total = gate_up_->bytes() + down_->bytes();
  for (const TensorView& parameter : {router_, router_bias_, gate_up_bias_, down_bias_}) {
    if (!parameter.absent()) total += static_cast<size_t>(parameter.bytes());
  }
  return total;
}

Status GpuLayer::keep(TensorView& parameter, int64_t rows, int64_t columns, const MatrixView& source, int64_t row,
                      int64_t column) {
  if (source.absent()) return {};
  const DType dtype = description().weight_dtype;
  if (parameter.absent()) {
    TensorView made = gpu::matrix_view(nullptr, dtype, rows, columns);
    MOE_TRY(runtime().allocate(static_cast<size_t>(made.bytes()), &made.data));
    parameter = made;
    MOE_TRY(runtime().fill(made.data, 0, static_cast<size_t>(made.bytes())));
  }
  char* place = parameter.as<char>() + (row * columns + column) * static_cast<int64_t>(info(dtype).bytes);
  return launch_pack_rows(source, {}, {place, dtype, source.rows, source.columns}, runtime().traits(),
                          runtime().stream());
}

Status GpuLayer::set_router(const MatrixView& weight, const MatrixView& bias) {
  const LayerDescription& d = description();
  MOE_TRY(runtime().use());
  MOE_TRY(keep(router_, d.experts, d.hidden, weight, 0, 0));
  return keep(router_bias_, 1, d.experts, bias, 0, 0);
}

Status GpuLayer::set_expert(int64_t expert, const ExpertViews& weights) {
  const LayerDescription& d = description();
  const bool gated = is_gated(d.activation);
  const int64_t rows = d.gate_up_rows();
  MOE_TRY(runtime().use());
  MOE_TRY(gate_up_->set_expert(expert, gated ? weights.gate : weights.up, gated ? weights.up : MatrixView{}));
  MOE_TRY(down_->set_expert(expert, weights.down, {}));
  MOE_TRY(keep(gate_up_bias_, d.experts, rows, weights.gate_bias, expert, 0));
  MOE_TRY(keep(gate_up_bias_, d.experts, rows, weights.up_bias, expert, rows - d.intermediate));
  return keep(down_bias_, d.experts, d.hidden, weights.down_bias, expert, 0);
}

Status GpuLayer::route_tokens(const TensorView& x, const TensorView& logits, const TensorView& ids,
                              const TensorView& weights, const Pass& pass) {
  MOE_TRY(launch_router_projection({x, router_, router_bias_, logits}, runtime().traits(), pass.stream));
  MOE_TRY(pass.mark(kRouted));
  return launch_gating({logits, {}, ids, weights, description().gating}, context_.errors.non_finite_rows(),
                       runtime().traits(), pass.stream);
}

Status GpuLayer::route(const TensorView& x, const TensorView& ids, const TensorView& weights) {
  MOE_TRY(runtime().use());
  TensorView logits = gpu::matrix_view(nullptr, DType::f32, x.shape[0], description().experts);
  Scratch scratch(runtime());
  MOE_TRY(scratch.reserve(static_cast<size_t>(logits.bytes())));
  logits.data = scratch.at(0);
  return route_tokens(x, logits, ids, weights, {runtime().stream(), scratch.at(0), context_.errors, nullptr});
}

Status GpuLayer::multiply(const Product& product, const TensorView& x, const TensorView& token_of_row, const void* map,
                          const TensorView& y, const Pass& pass) {
  gpu::IdError* error = nullptr;
  if (!token_of_row.absent()) {
    MOE_TRY(pass.errors.next({"forward: token of row", "a row", x.shape[0], 0}, &error));
  }
  const GroupedGemmOperands operands{
      x.data, x.shape[0], token_of_row, product.weight.data(), product.weight.weights(), product.bias,
      y.data, y.dtype,    y.shape[1]};
  return launch_grouped_gemm(operands, product.plan, map, error, pass.stream);
}

Status GpuLayer::plan(const LayerForward& f, gpu::LayerPlan* plan) const {
  const LayerDescription& d = description();
  MOE_TRY(gpu::check_rows("forward: x", f.x.shape[0] * d.gating.top_k));
  *plan = gpu::plan_layer(d, f.x.shape[0], f.x.dtype, gpu::rows_aligned(f.x), context_.tf32, runtime().traits());
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
  const int64_t tokens = f.x.shape[0];
  const int64_t top_k = d.gating.top_k;
  const int64_t rows = tokens * top_k;
  const gpu::DeviceTraits& traits = runtime().traits();
  const auto at = [&](size_t offset) { return pass.workspace + offset; };
  const auto ints = [&](size_t offset, int64_t size) { return gpu::vector_view(at(offset), DType::i32, size); };

  MOE_TRY(pass.mark(kBegin));
  TensorView ids = f.ids;
  TensorView weights = f.weights;
  if (ids.absent()) {
    const TensorView logits = gpu::matrix_view(at(plan.logits), DType::f32, tokens, d.experts);
    ids = gpu::matrix_view(at(plan.ids), DType::i32, tokens, top_k);
    weights = gpu::matrix_view(at(plan.weights), DType::f32, tokens, top_k);
    MOE_TRY(route_tokens(f.x, logits, ids, weights, pass));
  } else {
    MOE_TRY(pass.mark(kRouted));
  }
  MOE_TRY(pass.mark(kGated));

  const TensorView offsets = ints(plan.offsets, d.experts + 1);
  const TensorView token_of_row = ints(plan.token_of_row, rows);
  const TensorView row_of_slot = gpu::matrix_view(at(plan.row_of_slot), DType::i32, tokens, top_k);
  gpu::IdError* error = nullptr;
  MOE_TRY(pass.errors.next({"forward: ids", "an expert", d.experts, top_k}, &error));
  MOE_TRY(launch_sort({ids, offsets, ints(plan.tokens_per_expert, d.experts), token_of_row, row_of_slot}, plan.sort,
                      at(plan.sort_counts), error, pass.stream));
  const auto build_map = [&](const gpu::GemmPlan& gemm, size_t map) -> Status {
    MOE_TRY(pass.errors.next({"forward: offsets", nullptr, rows, 0}, &error));
    return launch_tile_map(offsets.as<int>(), d.experts, rows, gemm.tile.rows, at(map), error, traits.max_threads,
                           pass.stream);
  };
  MOE_TRY(build_map(plan.gate_up, plan.gate_up_map));
  if (plan.down_map != plan.gate_up_map) MOE_TRY(build_map(plan.down, plan.down_map));
  MOE_TRY(pass.mark(kSorted));

  TensorView x = f.x;
  if (plan.gate_up.converts_x) {
    x = gpu::matrix_view(at(plan.converted_x), plan.gate_up.x_dtype, tokens, plan.gate_up.x_pitch);
    MOE_TRY(
        launch_pack_rows(whole_matrix(f.x), {}, {x.data, x.dtype, tokens, plan.gate_up.x_pitch}, traits, pass.stream));
  }
  const TensorView inner = gpu::matrix_view(at(plan.inner), plan.inner_dtype, rows, plan.inner_pitch);
  MOE_TRY(multiply({*gate_up_, gate_up_bias_, plan.gate_up}, x, token_of_row, at(plan.gate_up_map), inner, pass));
  MOE_TRY(pass.mark(kGateUp));

  const TensorView outputs = gpu::matrix_view(at(plan.rows), plan.inner_dtype, rows, d.hidden);
  MOE_TRY(multiply({*down_, down_bias_, plan.down}, inner, {}, at(plan.down_map), outputs, pass));
  MOE_TRY(pass.mark(kDown));

  MOE_TRY(pass.errors.next({"forward: row of slot", "a row", rows, top_k}, &error));
  MOE_TRY(launch_combine({outputs, row_of_slot, weights, f.y}, error, traits, pass.stream));
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
  // the ids are the layer's own, so none is out of range.
  DataErrors errors_;
  std::shared_ptr<const Graph> graph_;
};

Status GpuLayer::capture(const LayerForward& forward, std::unique_ptr<CapturedForward>* captured) {
  auto made = std::make_unique<Captured>(*this, forward);
  MOE_TRY(made->record());
  *captured = std::move(made);
  return {};
}

StageTimes GpuLayer::stage_times() const {
  const auto between = [&](Mark from, Mark to) { return clock_->seconds(from, to); };
  return {between(kBegin, kRouted),  between(kRouted, kGated), between(kGated, kSorted),
          between(kSorted, kGateUp), between(kGateUp, kDown),  between(kDown, kCombined)};
}

}  // namespace moe::MOE_GPU_NAMESPACE
