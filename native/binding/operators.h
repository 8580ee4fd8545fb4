// Exports the list of operators with their fields, so that a test can compare it with the one in TypeScript.
#pragma once

#include "binding/napi_setup.h"

namespace moe::binding {

Napi::Value operators(const Napi::CallbackInfo& info);

}  // namespace moe::binding
