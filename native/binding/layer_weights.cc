// Setting a layer's weights, and reading them back.
#include <algorithm>

#include "binding/arguments.h"
#include "binding/arrays.h"
#include "binding/layer.h"
#include "core/layer/check.h"

namespace moe::binding {

void LayerObject::set_router(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  Uses uses;
  const WeightView projection = weight(env, info[0], uses);
  const MatrixView bias = optional_matrix(env, info[1], uses);
  const LayerDescription& description = layer(env)->description();
  check(env, check_router(description, projection, bias));
  set(env, "setRouter", description.all_experts(), &Layer::set_router, std::move(uses), projection, bias);
}

void LayerObject::set_selection_bias(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  Uses uses;
  const MatrixView bias = matrix(env, info[0], uses);
  const LayerDescription& description = layer(env)->description();
  check(env, check_selection_bias(description, bias));
  set(env, "setSelectionBias", description.all_experts() + 1, &Layer::set_selection_bias, std::move(uses), bias);
}

void LayerObject::set_shared_gate(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  Uses uses;
  const WeightView projection = weight(env, info[0], uses);
  const MatrixView bias = optional_matrix(env, info[1], uses);
  const LayerDescription& description = layer(env)->description();
  check(env, check_shared_gate(description, projection, bias));
  set(env, "setSharedGate", description.all_experts() + 2, &Layer::set_shared_gate, std::move(uses), projection, bias);
}

void LayerObject::set_expert(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const int64_t expert = integer(env, info[0], "expert");
  const Napi::Object given = info[1].ToObject();
  Uses uses;
  ExpertViews weights;
  weights.gate = optional_weight(env, given.Get("gate"), uses);
  weights.up = weight(env, given.Get("up"), uses);
  weights.multiplier = optional_weight(env, given.Get("multiplier"), uses);
  weights.down = weight(env, given.Get("down"), uses);
  weights.gate_bias = optional_matrix(env, given.Get("gateBias"), uses);
  weights.up_bias = optional_matrix(env, given.Get("upBias"), uses);
  weights.down_bias = optional_matrix(env, given.Get("downBias"), uses);
  check(env, check_expert(layer(env)->description(), expert, weights));
  set(env, "setExpert", expert, &Layer::set_expert, std::move(uses), expert, weights);
}

void LayerObject::copy_weight(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const auto role = choice<WeightRole>(env, info[0], "role");
  const int64_t expert = integer(env, info[1], "expert");
  Uses uses;
  const TensorView target = tensor(env, info[2], uses, Access::writes);
  const std::shared_ptr<Layer>& source = layer(env);
  check(env, check_copied_weight(source->description(), role, expert, target));
  uses.reads(source, kWhole);
  device().enqueue(
      env, "copyWeight", [source, role, expert, target] { return source->copy_weight(role, expert, target); },
      std::move(uses));
}

WeightCopies& LayerObject::copies(Napi::Env env) const {
  auto* const copies = dynamic_cast<WeightCopies*>(layer(env).get());
  if (copies == nullptr) throw_error(env, {Code::unsupported_operation, "this layer's weights cannot be copied"});
  return *copies;
}

void LayerObject::copy_selection_bias(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  Uses uses;
  const TensorView target = tensor(env, info[0], uses, Access::writes);
  const std::shared_ptr<Layer>& source = layer(env);
  check(env, check_copied_selection_bias(source->description(), target));
  WeightCopies& copies = this->copies(env);
  uses.reads(source, kWhole);
  device().enqueue(
      env, "copySelectionBias", [source, &copies, target] { return copies.copy_selection_bias(target); },
      std::move(uses));
}

void LayerObject::copy_field(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const auto role = choice<WeightRole>(env, info[0], "role");
  const int64_t expert = integer(env, info[1], "expert");
  const auto field = choice<QuantizedField>(env, info[2], "field");
  Uses uses;
  const TensorView target = tensor(env, info[3], uses, Access::writes);
  const std::shared_ptr<Layer>& source = layer(env);
  check(env, check_copied_field(source->description(), role, expert, field, target));
  WeightCopies& copies = this->copies(env);
  uses.reads(source, kWhole);
  device().enqueue(
      env, "copyField",
      [source, &copies, role, expert, field, target] { return copies.copy_field(role, expert, field, target); },
      std::move(uses));
}

Napi::Value LayerObject::parts(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  Napi::Object result = Napi::Object::New(env);
  for (const WeightPart& part : layer(env)->parts()) {
    const std::shared_ptr<void> data(layer_, part.data);
    result.Set(part.name, TensorObject::over(device_.Value(), std::make_shared<Storage>(data, part.bytes)));
  }
  return result;
}

Napi::Value LayerObject::checksums(const Napi::CallbackInfo& info) {
  auto sums = std::make_shared<std::vector<uint64_t>>();
  Uses uses;
  uses.reads(layer(info.Env()), kWhole);
  const auto work = [target = layer(info.Env()), sums] {
    *sums = target->checksums();
    return Status();
  };
  const auto result = [sums](Napi::Env env) -> Napi::Value {
    const Napi::ArrayBuffer memory = new_array_buffer(env, sums->size() * sizeof(uint64_t));
    Napi::BigUint64Array result = Napi::BigUint64Array::New(env, sums->size(), memory, 0);
    std::copy(sums->begin(), sums->end(), result.Data());
    return result;
  };
  return device().promise(info.Env(), work, std::move(uses), result, Told::own);
}

Napi::Value LayerObject::weights_set(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  Uses uses;
  uses.reads(layer(env), kWhole);
  // Unlike synchronize(), this leaves what other work found in its data to the next wait.
  const auto work = [backend = device().backend(env)] { return backend->settle({}); };
  return device().promise(
      env, work, std::move(uses), [](Napi::Env e) { return e.Undefined(); }, Told::own);
}

}  // namespace moe::binding
