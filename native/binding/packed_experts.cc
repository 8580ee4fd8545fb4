#include "binding/packed_experts.h"

#include "binding/addon.h"
#include "binding/arguments.h"
#include "binding/field_reader.h"

namespace moe::binding {

void PackedExpertsObject::define(Napi::Env env) {
  const std::vector<PropertyDescriptor> members = {
      InstanceMethod<&PackedExpertsObject::set_expert>("setExpert"),
      InstanceAccessor<&PackedExpertsObject::failed>("failed"),
      InstanceAccessor<&PackedExpertsObject::byte_length>("byteLength"),
      InstanceMethod<&PackedExpertsObject::free>("free"),
  };
  Addon::of(env).packed_experts = Napi::Persistent(DefineClass(env, members));
}

Napi::Object PackedExpertsObject::create(Napi::Object device, DeviceObject& owner, const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  owner.stream(env);
  ExpertProduct weights;
  weights.experts = integer(env, info[0], "numExperts");
  weights.rows = integer(env, info[1], "rows");
  weights.columns = integer(env, info[2], "columns");
  weights.format = weight_format(env, info[3]);
  weights.activation = choice<Activation>(env, info[4], "activation");
  weights.clamps.routed = read_fields<Clamp>(info[5], "clamp");
  weights.tokens = choice<TokenFormat>(env, info[6], "tokenFormat");
  check(env, weights.check());
  std::unique_ptr<PackedExperts> packed;
  const int64_t rows = info[7].IsUndefined() ? kManyProducts : integer(env, info[7], "rows");
  check(env, owner.backend(env)->packed_experts(weights, rows, &packed));
  Napi::Object object = Addon::of(env).packed_experts.New({});
  PackedExpertsObject& result = *Unwrap(object);
  result.device_ = Napi::Persistent(device);
  // The memory is the backend's, so the backend must outlive it.
  result.packed_ =
      std::shared_ptr<PackedExperts>(packed.release(), [backend = owner.backend(env)](PackedExperts* p) { delete p; });
  result.reported_.set(env, static_cast<int64_t>(result.packed_->bytes()));
  return object;
}

void PackedExpertsObject::Finalize(Napi::BasicEnv env) { release(env); }

void PackedExpertsObject::release(Napi::BasicEnv env) {
  packed_.reset();
  reported_.set(env, 0);
}

const std::shared_ptr<PackedExperts>& PackedExpertsObject::packed(Napi::Env env) const {
  if (packed_ == nullptr) throw_error(env, {Code::disposed, "packed experts: used after dispose()"});
  return packed_;
}

const PackedExperts* PackedExpertsObject::read(Napi::Env env, Uses& uses) const {
  uses.reads(packed(env), kWhole);
  return packed_.get();
}

void PackedExpertsObject::set_expert(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const int64_t expert = integer(env, info[0], "expert");
  Uses uses;
  const WeightView first = weight(env, info[1], uses);
  const WeightView up = optional_weight(env, info[2], uses);
  const std::shared_ptr<PackedExperts>& target = packed(env);
  check(env, target->weights().check_expert(expert, first, up));
  if (target->borrows()) target->keep(uses);
  const size_t place = static_cast<size_t>(expert);
  uses.writes(target, {place, place + 1});
  DeviceObject::Unwrap(device_.Value())
      ->enqueue(
          env, "packExperts", [target, expert, first, up] { return target->set_expert(expert, first, up); },
          std::move(uses));
}

Napi::Value PackedExpertsObject::failed(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const std::shared_ptr<PackedExperts>& target = packed(env);
  const bool idle = DeviceObject::Unwrap(device_.Value())->stream(env).idle();
  return Napi::Boolean::New(env, idle && target->failure_in(kWhole) != nullptr);
}

Napi::Value PackedExpertsObject::byte_length(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const size_t bytes = packed(env)->bytes();
  // Setting experts allocates memory for input scales and orders.
  reported_.set(env, static_cast<int64_t>(bytes));
  return Napi::Number::New(env, static_cast<double>(bytes));
}

void PackedExpertsObject::free(const Napi::CallbackInfo& info) { release(info.Env()); }

}  // namespace moe::binding
