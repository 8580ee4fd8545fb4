#include "binding/offload_budget.h"

#include "binding/addon.h"
#include "binding/arguments.h"
#include "binding/offload.h"

namespace moe::binding {

void OffloadBudgetObject::define(Napi::Env env) {
  const std::vector<PropertyDescriptor> members = {
      InstanceMethod<&OffloadBudgetObject::stats>("stats"),
      InstanceAccessor<&OffloadBudgetObject::byte_length>("byteLength"),
      InstanceMethod<&OffloadBudgetObject::free>("free"),
  };
  Addon::of(env).offload_budget = Napi::Persistent(DefineClass(env, members));
}

Napi::Object OffloadBudgetObject::create(Napi::Object device, DeviceObject& owner, const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  owner.stream(env);
  const BudgetOptions options = budget_options(env, info[0].ToObject(), "budget");
  if (options.slots == 0 && options.bytes == 0) {
    throw_error(env, {Code::invalid_argument, "budget: expected slots or bytes of at least 1"});
  }
  const std::shared_ptr<Backend>& backend = owner.backend(env);
  std::shared_ptr<OffloadBudget> made = backend->offload_budget(options);
  Napi::Object object = Addon::of(env).offload_budget.New({});
  OffloadBudgetObject& result = *Unwrap(object);
  result.device_ = Napi::Persistent(device);
  result.backend_ = backend;
  // The slots' memory is the backend's, which must outlive it; layers may keep the budget longer than this object.
  OffloadBudget* budget = made.get();
  result.budget_ = std::shared_ptr<OffloadBudget>(
      budget, [backend, made = std::move(made)](OffloadBudget*) mutable { made.reset(); });
  return object;
}

const std::shared_ptr<OffloadBudget>& OffloadBudgetObject::budget(Napi::Env env) const {
  if (budget_ == nullptr) throw_error(env, {Code::disposed, "offload budget: used after dispose()"});
  return budget_;
}

const std::shared_ptr<OffloadBudget>& OffloadBudgetObject::of(Napi::Env env, const DeviceObject& device) const {
  const std::shared_ptr<OffloadBudget>& given = budget(env);
  if (device.backend(env) == backend_) return given;
  throw_error(env, {Code::device_mismatch, "offload.budget: expected a budget of the layer's device"});
}

void OffloadBudgetObject::report(Napi::BasicEnv env) { reported_.set(env, budget_ == nullptr ? 0 : budget_->bytes()); }

void OffloadBudgetObject::Finalize(Napi::BasicEnv env) { release(env); }

void OffloadBudgetObject::release(Napi::BasicEnv env) {
  budget_.reset();
  backend_.reset();
  report(env);
}

Napi::Value OffloadBudgetObject::stats(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  auto stats = std::make_shared<BudgetStats>();
  const auto work = [budget = budget(env), stats] {
    *stats = budget->stats();
    return Status();
  };
  return DeviceObject::Unwrap(device_.Value())->promise(env, work, {}, [stats](Napi::Env e) -> Napi::Value {
    return budget_stats(e, *stats);
  });
}

Napi::Value OffloadBudgetObject::byte_length(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const int64_t bytes = budget(env)->bytes();
  report(env);
  return Napi::Number::New(env, static_cast<double>(bytes));
}

void OffloadBudgetObject::free(const Napi::CallbackInfo& info) { release(info.Env()); }

}  // namespace moe::binding
