#include "binding/layer.h"

#include <algorithm>

#include "binding/addon.h"
#include "binding/arguments.h"
#include "binding/captured_forward.h"
#include "binding/layer_description.h"
#include "binding/offload.h"
#include "binding/offload_budget.h"
#include "core/layer/check.h"
#include "core/offload/split_layer.h"

namespace moe::binding {

void LayerObject::define(Napi::Env env) {
  const std::vector<PropertyDescriptor> members = {
      InstanceMethod<&LayerObject::set_router>("setRouter"),
      InstanceMethod<&LayerObject::set_selection_bias>("setSelectionBias"),
      InstanceMethod<&LayerObject::set_shared_gate>("setSharedGate"),
      InstanceMethod<&LayerObject::set_expert>("setExpert"),
      InstanceMethod<&LayerObject::copy_weight>("copyWeight"),
      InstanceMethod<&LayerObject::copy_selection_bias>("copySelectionBias"),
      InstanceMethod<&LayerObject::copy_field>("copyField"),
      InstanceMethod<&LayerObject::logits>("logits"),
      InstanceMethod<&LayerObject::route>("route"),
      InstanceMethod<&LayerObject::forward>("forward"),
      InstanceMethod<&LayerObject::capture>("capture"),
      InstanceMethod<&LayerObject::prefetch>("prefetch"),
      InstanceAccessor<&LayerObject::offload_slots>("offloadSlots"),
      InstanceMethod<&LayerObject::offload_stats>("offloadStats"),
      InstanceMethod<&LayerObject::stage_times>("stageTimes"),
      InstanceAccessor<&LayerObject::byte_length>("byteLength"),
      InstanceMethod<&LayerObject::parts>("parts"),
      InstanceMethod<&LayerObject::checksums>("checksums"),
      InstanceMethod<&LayerObject::weights_set>("weightsSet"),
      InstanceMethod<&LayerObject::free>("free"),
  };
  Addon::of(env).layer = Napi::Persistent(DefineClass(env, members));
}

static std::vector<Stage> list_of(Stages stages) { return {stages.begin(), stages.end()}; }

// Stored weights: an object with a tensor for each part, by name.
static std::vector<WeightPart> weight_parts(Napi::Env env, Napi::Object given, Uses& uses) {
  std::vector<WeightPart> parts;
  const Napi::Array names = own_names(given);
  for (uint32_t i = 0; i < names.Length(); ++i) {
    const std::string name = names.Get(i).ToString();
    const Napi::Value value = given.Get(name);
    const TensorView view = tensor(env, value, uses);
    parts.push_back(
        {name, view.data, static_cast<size_t>(view.bytes()), unwrap<TensorObject>(value)->storage()->file()});
  }
  return parts;
}

static OffloadBudgetObject* optional_budget(Napi::Env env, Napi::Value value) {
  if (value.IsNull() || value.IsUndefined()) return nullptr;
  OffloadBudgetObject* const budget = unwrap<OffloadBudgetObject>(value);
  if (budget == nullptr) {
    throw_error(env, {Code::invalid_argument, "offload.budget: expected a budget, got " + text_of(value)});
  }
  return budget;
}

Napi::Object LayerObject::create(Napi::Object device, DeviceObject& owner, const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  owner.stream(env);
  const LayerDescription description = layer_description(env, info[0].ToObject());
  std::optional<OffloadOptions> options = offload_options(env, info[2], description.bank.count);
  OffloadBudgetObject* budget = nullptr;
  if (options) budget = optional_budget(env, info[2].ToObject().Get("budget"));
  if (budget != nullptr) options->budget = budget->of(env, owner);
  const OffloadOptions* offload = options ? &*options : nullptr;
  std::unique_ptr<Layer> layer;
  std::shared_ptr<Backend> host;
  Uses stored;
  std::vector<WeightPart> parts;
  if (info[1].IsObject()) parts = weight_parts(env, info[1].As<Napi::Object>(), stored);
  const auto made = [&] {
    return info[1].IsObject() ? owner.backend(env)->stored_layer(description, parts, offload, &layer)
                              : owner.backend(env)->layer(description, offload, &layer);
  };
  Status status = made();
  if (!status.ok() && budget != nullptr && !owner.stream(env).idle()) {
    // Layers that were disposed of leave the budget when the work that uses them is done.
    owner.stream(env).drain();
    status = made();
  }
  check(env, status);
  if (offload != nullptr && offload->rows_to_load > 0) {
    host = owner.host(env);
    check(env, SplitLayer::create(std::move(layer), *owner.backend(env), *host, &layer));
  }
  Napi::Object object = Addon::of(env).layer.New({});
  LayerObject& result = *Unwrap(object);
  result.device_ = Napi::Persistent(device);
  // The layer's memory is the backend's or that of stored weights, so both must outlive it.
  result.layer_ = std::shared_ptr<Layer>(
      layer.release(), [backend = owner.backend(env), host, stored = std::move(stored)](Layer* l) { delete l; });
  if (budget != nullptr) budget->report(env);
  result.report(env);
  return object;
}

void LayerObject::Finalize(Napi::BasicEnv env) { release(env); }

void LayerObject::release(Napi::BasicEnv env) {
  layer_.reset();
  reported_.set(env, 0);
}

void LayerObject::report(Napi::BasicEnv env) {
  reported_.set(env, static_cast<int64_t>(layer_->bytes() + layer_->host_bytes()));
}

const std::shared_ptr<Layer>& LayerObject::layer(Napi::Env env) const {
  if (layer_ == nullptr) throw_error(env, {Code::disposed, "layer: used after dispose()"});
  return layer_;
}

DeviceObject& LayerObject::device() const { return *DeviceObject::Unwrap(device_.Value()); }

void LayerObject::run(Napi::Env env, const char* name, std::vector<Stage> stages, const LayerForward& forward,
                      Uses uses) {
  const std::shared_ptr<Layer>& target = layer(env);
  check(env, check_forward(target->description(), stages, forward));
  uses.reads(target, kWhole);
  device().enqueue(
      env, name, [target, stages = std::move(stages), forward] { return target->run(stages, forward); },
      std::move(uses));
}

void LayerObject::logits(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  Uses uses;
  LayerForward forward;
  forward.x = tensor(env, info[0], uses);
  forward.logits = tensor(env, info[1], uses, Access::writes);
  run(env, "logits", list_of(kLogitsStages), forward, std::move(uses));
}

void LayerObject::route(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  Uses uses;
  LayerForward forward;
  forward.x = tensor(env, info[0], uses);
  forward.ids = tensor(env, info[1], uses, Access::writes);
  forward.weights = tensor(env, info[2], uses, Access::writes);
  run(env, "route", list_of(kRouteStages), forward, std::move(uses));
}

// The arguments of forward() and capture(), but for their stages.
static LayerForward layer_forward(const Napi::CallbackInfo& info, Stages stages, Uses& uses) {
  const Napi::Env env = info.Env();
  const Access routing = contains(stages, Stage::gating) ? Access::writes : Access::reads;
  const Access logits = contains(stages, Stage::router) ? Access::writes : Access::reads;
  LayerForward problem;
  problem.x = tensor(env, info[0], uses);
  problem.y = optional_tensor(env, info[1], uses, Access::writes);
  problem.ids = optional_tensor(env, info[2], uses, routing);
  problem.weights = optional_tensor(env, info[3], uses, routing);
  problem.max_choices = integer(env, info[4], "maxChoices");
  problem.logits = optional_tensor(env, info[6], uses, logits);
  problem.residual = optional_tensor(env, info[7], uses);
  if (info[8].IsObject()) {
    const Napi::Object rows = info[8].As<Napi::Object>();
    problem.pre = optional_tensor(env, rows.Get("pre"), uses, Access::writes);
    problem.multiplied = optional_tensor(env, rows.Get("multiplied"), uses, Access::writes);
  }
  return problem;
}

// The stages that forward() and capture() are given, by default those of a whole forward.
static std::vector<Stage> stages_of(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  if (!info[5].IsArray()) return list_of(info[2].IsObject() ? Stages(kRoutedStages) : Stages(kForwardStages));
  const Napi::Array given = info[5].As<Napi::Array>();
  std::vector<Stage> stages;
  for (uint32_t i = 0; i < given.Length(); ++i) {
    const std::string name = given.Get(i).ToString();
    const auto* const known = std::find(std::begin(kStageNames), std::end(kStageNames), name);
    if (known == std::end(kStageNames)) {
      throw_error(env, {Code::invalid_argument, "stages: expected the name of a stage, got \"" + name + "\""});
    }
    stages.push_back(static_cast<Stage>(known - std::begin(kStageNames)));
  }
  return stages;
}

void LayerObject::forward(const Napi::CallbackInfo& info) {
  Uses uses;
  std::vector<Stage> stages = stages_of(info);
  const LayerForward problem = layer_forward(info, stages, uses);
  run(info.Env(), "forward", std::move(stages), problem, std::move(uses));
}

Napi::Value LayerObject::capture(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  Uses uses;
  std::vector<Stage> stages = stages_of(info);
  const LayerForward problem = layer_forward(info, stages, uses);
  check(env, check_forward(layer(env)->description(), stages, problem));
  return CapturedForwardObject::create(device_.Value(), layer(env), std::move(stages), problem, std::move(uses));
}

void LayerObject::prefetch(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const std::shared_ptr<Layer> target = layer(env);
  std::vector<int32_t> experts = expert_list(env, info[0], target->description().bank.count, "prefetch");
  Uses uses;
  uses.reads(target, kWhole);
  device().enqueue(
      env, "prefetch", [target, experts = std::move(experts)] { return target->prefetch(experts); }, std::move(uses));
}

Napi::Value LayerObject::offload_slots(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), static_cast<double>(layer(info.Env())->offload_slots()));
}

Napi::Value LayerObject::offload_stats(const Napi::CallbackInfo& info) {
  auto stats = std::make_shared<OffloadStats>();
  const auto work = [target = layer(info.Env()), stats] {
    *stats = target->offload_stats();
    return Status();
  };
  return device().promise(info.Env(), work, {},
                          [stats](Napi::Env env) -> Napi::Value { return binding::offload_stats(env, *stats); });
}

Napi::Value LayerObject::stage_times(const Napi::CallbackInfo& info) {
  auto times = std::make_shared<StageTimes>();
  const auto work = [target = layer(info.Env()), times] {
    *times = target->stage_times();
    return Status();
  };
  return device().promise(info.Env(), work, {}, [times](Napi::Env env) -> Napi::Value {
    Napi::Object result = Napi::Object::New(env);
    for (const Stage stage : kForwardStages) {
      // The gate of the shared experts counts as part of the router.
      if (stage == Stage::shared_gate) continue;
      const double gate = stage == Stage::router ? (*times)[Stage::shared_gate] : 0.0;
      result.Set(kStageNames[static_cast<int>(stage)], ((*times)[stage] + gate) * 1e6);
    }
    return result;
  });
}

Napi::Value LayerObject::byte_length(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const size_t bytes = layer(env)->bytes();
  report(env);
  return Napi::Number::New(env, static_cast<double>(bytes));
}

void LayerObject::free(const Napi::CallbackInfo& info) { release(info.Env()); }

}  // namespace moe::binding
