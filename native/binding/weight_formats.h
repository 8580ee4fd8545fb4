// Exports the weight formats, so that a test can compare them with those in TypeScript.
#pragma once

#include "binding/napi_setup.h"

namespace moe::binding {

Napi::Value weight_format_by_name(const Napi::CallbackInfo& info);

}  // namespace moe::binding
