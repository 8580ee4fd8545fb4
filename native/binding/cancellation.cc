#include "binding/cancellation.h"

#include "binding/addon.h"

namespace moe::binding {

const napi_type_tag CancellationObject::kTag = {0x6d6f652d6b65726eULL, 0x656c732063616e63ULL};

void CancellationObject::define(Napi::Env env) {
  Addon::of(env).cancellation =
      Napi::Persistent(DefineClass(env, "CancellationHandle", {InstanceMethod<&CancellationObject::cancel>("cancel")}));
}

Napi::Object CancellationObject::create(Napi::Env env) { return Addon::of(env).cancellation.New({}); }

CancellationObject::CancellationObject(const Napi::CallbackInfo& info) : Object(info) {
  info.This().As<Napi::Object>().TypeTag(&kTag);
}

}  // namespace moe::binding
