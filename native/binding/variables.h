// Environment variables for devices, as the JavaScript of this thread has them.
#pragma once

#include "binding/napi_setup.h"
#include "core/variables.h"

namespace moe::binding {

// What the function gives that initialize() was given.
Variables variables_of(Napi::Env env);

}  // namespace moe::binding
