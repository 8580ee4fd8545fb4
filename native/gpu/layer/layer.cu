#include "gpu/layer/layer.h"

#include <algorithm>
#include <limits>
#include <optional>

#include "gpu/layer/forward_state.h"

namespace moe::MOE_GPU_NAMESPACE {

Status GpuLayer::create(const LayerDescription& description, const OffloadOptions* offload, Context& context,
                        std::unique_ptr<Layer>* layer) {
  const LayerDescription own = offload == nullptr ? description : Offload::with_groups(description);
  std::unique_ptr<GpuLayer> made(new GpuLayer(own, context));
  Runtime& runtime = *context.runtime;
  if (offload == nullptr) {
    MOE_TRY(LayerWeights::create(own, nullptr, runtime, &made->weights_));
  } else {
    MOE_TRY(Offload::create(own, *offload, runtime, &made->weights_, &made->offload_));
  }
  MOE_TRY(StageClock::create(*context.runtime, &made->clock_));
  *layer = std::move(made);
  return {};
}

Status GpuLayer::set_router(const WeightView& weight, const MatrixView& bias) {
  MOE_TRY(runtime().use());
  return weights_->set_router(weight, bias);
}

Status GpuLayer::set_selection_bias(const MatrixView& bias) {
  MOE_TRY(runtime().use());
  return weights_->set_selection_bias(bias);
}

Status GpuLayer::set_shared_gate(const WeightView& weight, const MatrixView& bias) {
  MOE_TRY(runtime().use());
  return weights_->set_shared_gate(weight, bias);
}

Status GpuLayer::set_expert(int64_t expert, const ExpertViews& weights) {
  MOE_TRY(runtime().use());
  if (offload_ != nullptr && expert < description().bank.count) offload_->share().forget(static_cast<int32_t>(expert));
  return weights_->set_expert(expert, weights);
}

Status GpuLayer::copy_weight(WeightRole role, int64_t expert, const TensorView& target) {
  MOE_TRY(runtime().use());
  return weights_->copy(role, expert, target);
}

Status GpuLayer::plan(Stages stages, const LayerForward& f, gpu::LayerPlan* plan) const {
  const LayerDescription& d = description();
  const int64_t tokens = f.x.shape[0];
  const int64_t choices = f.choices(d);
  MOE_TRY(gpu::check_rows("forward: x", tokens * d.slots(choices)));
  // All rows that are kept are written.
  const bool bounded = f.max_choices >= 0 && !f.keeps_rows();
  const gpu::LayerProblem problem{.tokens = tokens,
                                  .choices = choices,
                                  .max_choices = bounded ? f.max_choices : tokens * choices,
                                  .x = f.x.dtype,
                                  .x_aligned = gpu::rows_aligned(f.x),
                                  .allowed = context_.allowed,
                                  .inputs = weights_->inputs(),
                                  .stages = stages,
                                  .logits_given = !f.logits.absent(),
                                  .ids_given = !f.ids.absent()};
  return gpu::plan_layer(d, problem, runtime().traits(), plan);
}

Status GpuLayer::enqueue(Stages stages, const LayerForward& f, const gpu::LayerPlan& plan, const Target& target) const {
  const auto mark = [&](size_t index) {
    return target.clock != nullptr ? target.clock->mark(static_cast<int>(index)) : Status{};
  };
  const Pass pass{.layer = description(),
                  .weights = *weights_,
                  .forward = f,
                  .plan = plan,
                  .state = target.state,
                  .workspace = target.workspace,
                  .errors = target.errors,
                  .non_finite_rows = context_.errors.non_finite_rows(),
                  .traits = runtime().traits(),
                  .stream = target.stream,
                  .offload = target.offload,
                  .bank_place = target.bank_place};
  MOE_TRY(mark(0));
  for (size_t i = 0; i < stages.size(); ++i) {
    MOE_TRY(run_stage(stages[i], pass));
    MOE_TRY(mark(i + 1));
  }
  return {};
}

std::unique_ptr<ForwardState> GpuLayer::new_state() { return std::make_unique<GpuForwardState>(runtime()); }

Status GpuLayer::prefetch(const std::vector<int32_t>& experts) {
  if (offload_ == nullptr) return Layer::prefetch(experts);
  MOE_TRY(runtime().use());
  return forgetting([&] { return offload_->prefetch(experts); });
}

Status GpuLayer::adopt() {
  const int32_t expert = offload_ == nullptr ? -1 : offload_->share().preferred();
  return expert < 0 ? Status() : prefetch({expert});
}

Status GpuLayer::run(Stages stages, const LayerForward& f) {
  MOE_TRY(runtime().use());
  std::optional<OffloadedPass> offloaded;
  if (offload_ != nullptr) {
    MOE_TRY(check_offloaded(stages));
    offloaded.emplace(*offload_);
  }
  gpu::LayerPlan planned;
  MOE_TRY(plan(stages, f, &planned));
  GpuForwardState own(runtime());
  GpuForwardState& state = f.state == nullptr ? own : static_cast<GpuForwardState&>(*f.state);
  MOE_TRY(state.reserve(stages, description(), f, planned));
  Scratch scratch(runtime());
  MOE_TRY(scratch.reserve(planned.workspace_bytes));
  const bool timed = timing_ && !f.y.absent();
  if (timed) timed_.assign(stages.begin(), stages.end());
  return forgetting([&] {
    return enqueue(stages, f, planned,
                   {.stream = runtime().stream(),
                    .state = state.pass_state(),
                    .workspace = scratch.at(0),
                    .errors = context_.errors,
                    .clock = timed ? clock_.get() : nullptr,
                    .offload = offloaded ? &*offloaded : nullptr});
  });
}

// A graph of one pass's launches, and the memory that they use.
class GpuLayer::Captured final : public CapturedForward {
 public:
  Captured(GpuLayer& layer, Stages stages, const LayerForward& forward)
      : layer_(layer),
        stages_(stages.begin(), stages.end()),
        forward_(forward),
        state_(layer.runtime()),
        workspace_(layer.runtime()),
        errors_(layer.runtime()) {}

  Status prepare() {
    MOE_TRY(layer_.runtime().use());
    MOE_TRY(layer_.plan(stages_, forward_, &plan_));
    MOE_TRY(state_.reserve(stages_, layer_.description(), forward_, plan_));
    MOE_TRY(workspace_.reserve(plan_.workspace_bytes));
    MOE_TRY(errors_.open());
    if (layer_.offload_ != nullptr) MOE_TRY(layer_.forgetting([&] { return layer_.offload_->load_all(); }));
    return record();
  }

  Status replay() override {
    // Weights are set in place, except for the first selection bias of a layer that had none.
    if (layer_.weights_->selection_bias().data != selection_bias_) MOE_TRY(record());
    return layer_.runtime().launch(*graph_);
  }

 private:
  Status record() {
    const int64_t bank_place = layer_.offload_ == nullptr ? 0 : layer_.offload_->share().first();
    MOE_TRY(layer_.runtime().record(
        [&](Stream stream) {
          return layer_.enqueue(stages_, forward_, plan_,
                                {.stream = stream,
                                 .state = state_.pass_state(),
                                 .workspace = workspace_.at(0),
                                 .errors = errors_,
                                 .clock = nullptr,
                                 .bank_place = static_cast<int>(bank_place)});
        },
        &graph_));
    selection_bias_ = layer_.weights_->selection_bias().data;
    return {};
  }

  GpuLayer& layer_;
  const std::vector<Stage> stages_;
  LayerForward forward_;
  gpu::LayerPlan plan_;
  GpuForwardState state_;
  Scratch workspace_;
  // Launches of a graph need places of their own to write errors to, since the device hands its places to other
  // launches after each wait. Nobody reads them: ids that are given are in range.
  DataErrors errors_;
  std::shared_ptr<const Graph> graph_;
  const void* selection_bias_ = nullptr;  // where the graph reads it
};

Status GpuLayer::capture(Stages stages, const LayerForward& forward, std::unique_ptr<CapturedForward>* captured) {
  auto made = std::make_unique<Captured>(*this, stages, forward);
  MOE_TRY(made->prepare());
  *captured = std::move(made);
  return {};
}

StageTimes GpuLayer::stage_times() {
  timing_ = true;
  StageTimes times;
  if (timed_.empty()) std::ranges::fill(times.seconds, std::numeric_limits<double>::quiet_NaN());
  for (size_t i = 0; i < timed_.size(); ++i) {
    times[timed_[i]] = clock_->seconds(static_cast<int>(i), static_cast<int>(i) + 1);
  }
  return times;
}

}  // namespace moe::MOE_GPU_NAMESPACE
