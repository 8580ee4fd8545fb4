#include "binding/errors.h"

#include "binding/addon.h"

namespace moe::binding {

Napi::Value make_error(Napi::Env env, const Status& status) {
  // Null if loading failed before there was one.
  const Addon* addon = env.GetInstanceData<Addon>();
  const Napi::String code = Napi::String::New(env, code_name(status.code));
  const Napi::String message = Napi::String::New(env, status.text());
  if (addon != nullptr && !addon->error_class.IsEmpty()) {
    return addon->error_class.New({code, message, addon->abort_reasons.options_for(env, status)});
  }
  Napi::Object error = Napi::Error::New(env, status.text()).Value();
  error.Set("code", code);
  return error;
}

void throw_error(Napi::Env env, const Status& status) { throw Napi::Error(env, make_error(env, status)); }

}  // namespace moe::binding
