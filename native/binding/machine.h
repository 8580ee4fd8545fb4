// What JavaScript can ask of the build and the machine.
#pragma once

#include "binding/napi_setup.h"

namespace moe::binding {

// Loads a device's library: kind, file.
Napi::Value load_device_library(const Napi::CallbackInfo& info);
Napi::Value devices(const Napi::CallbackInfo& info);
Napi::Value kernels(const Napi::CallbackInfo& info);
Napi::Value build_info(const Napi::CallbackInfo& info);
Napi::Value cpu_info(const Napi::CallbackInfo& info);
Napi::Value product_kernel(const Napi::CallbackInfo& info);
Napi::Value ceilings(const Napi::CallbackInfo& info);
Napi::Value read_rate(const Napi::CallbackInfo& info);

}  // namespace moe::binding
