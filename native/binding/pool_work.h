// Work on a thread of libuv's pool, so that JavaScript keeps running.
#pragma once

#include <functional>

#include "binding/napi_setup.h"
#include "core/status.h"

namespace moe::binding {

// Starts `work`. The promise resolves to what result(env) makes of it, or rejects with its failure. `name` is what Node
// calls the work in its diagnostics. Both functions are destroyed on the JavaScript thread.
Napi::Promise run_on_pool(Napi::Env env, const char* name, std::function<Status()> work,
                          std::function<Napi::Value(Napi::Env)> result);

}  // namespace moe::binding
