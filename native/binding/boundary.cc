#include "binding/boundary.h"

#include "binding/errors.h"

namespace moe::binding {

namespace {

// The exception being handled, as a JavaScript value. May itself throw if memory runs out or the environment is ending.
napi_value value_of_caught(napi_env env) {
  try {
    throw;
  } catch (const Napi::Error& error) {
    return error.Value();
  } catch (...) {
    return make_error(env, caught());
  }
}

}  // namespace

void throw_caught(napi_env env) noexcept {
  // Throwing fails only if the environment is ending or an exception is already pending.
  try {
    (void)napi_throw(env, value_of_caught(env));
  } catch (...) {
    const Status status = caught();
    (void)napi_throw_error(env, code_name(status.code), status.text());
  }
}

}  // namespace moe::binding
