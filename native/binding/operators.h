// The list of operators as the addon exports it: their names and fields, for a comparison with the one in TypeScript.
#pragma once

#include "binding/napi_setup.h"

namespace moe::binding {

Napi::Value operators(const Napi::CallbackInfo& info);

}  // namespace moe::binding
