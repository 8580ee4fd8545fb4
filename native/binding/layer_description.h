// A layer's description, as JavaScript gives it.
#pragma once

#include "binding/napi_setup.h"
#include "core/layer/description.h"

namespace moe::binding {

// Throws what is wrong with it.
LayerDescription layer_description(Napi::Env env, Napi::Object given);

}  // namespace moe::binding
