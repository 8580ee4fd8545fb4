// Native failures as MoeError in JavaScript.
#pragma once

#include "binding/napi_setup.h"
#include "core/status.h"

namespace moe::binding {

// A MoeError (the class that initialize() was given) with the status's code and message, whose cause is what the signal
// was aborted with if it is ABORTED.
Napi::Value make_error(Napi::Env env, const Status& status);

[[noreturn]] void throw_error(Napi::Env env, const Status& status);

inline void check(Napi::Env env, const Status& status) {
  if (!status.ok()) throw_error(env, status);
}

}  // namespace moe::binding
