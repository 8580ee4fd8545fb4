#include "binding/cancellation.h"

#include "binding/addon.h"

namespace moe::binding {

void CancellationObject::define(Napi::Env env) {
  Addon::of(env).cancellation =
      Napi::Persistent(DefineClass(env, {InstanceMethod<&CancellationObject::cancel>("cancel"),
                                         InstanceMethod<&CancellationObject::pending>("pending")}));
}

Napi::Object CancellationObject::create(Napi::Env env) { return Addon::of(env).cancellation.New({}); }

void CancellationObject::cancel(const Napi::CallbackInfo& info) {
  if (cancelled_->load(std::memory_order_relaxed) != 0) return;
  uint64_t number = AbortReasons::kUnknown;
  // Called by a signal, which nobody could tell of a failure: the work is cancelled in any case.
  (void)guarded([&] {
    number = Addon::of(info.Env()).abort_reasons.keep(info.Env(), info[0]);
    return Status();
  });
  cancelled_->store(number, std::memory_order_release);
}

Napi::Value CancellationObject::pending(const Napi::CallbackInfo& info) {
  return Napi::Boolean::New(info.Env(), cancelled_.use_count() > 1);
}

}  // namespace moe::binding
