#include "binding/errors.h"

#include "binding/addon.h"

namespace moe::binding {

Napi::Value make_error(Napi::Env env, const Status& status) {
  Napi::FunctionReference& error_class = Addon::of(env).error_class;
  const Napi::String code = Napi::String::New(env, code_name(status.code));
  const Napi::String message = Napi::String::New(env, status.message);
  if (!error_class.IsEmpty()) return error_class.New({code, message});
  Napi::Object error = Napi::Error::New(env, status.message).Value();
  error.Set("code", code);
  return error;
}

void throw_error(Napi::Env env, const Status& status) { throw Napi::Error(env, make_error(env, status)); }

}  // namespace moe::binding
