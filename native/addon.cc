// The exports table.
#include "binding/addon.h"
#include "binding/boundary.h"
#include "binding/cancellation.h"
#include "binding/captured_forward.h"
#include "binding/device.h"
#include "binding/gguf_codes.h"
#include "binding/layer.h"
#include "binding/machine.h"
#include "binding/offload.h"
#include "binding/offload_budget.h"
#include "binding/operators.h"
#include "binding/packed_experts.h"
#include "binding/tensor.h"
#include "binding/weight_formats.h"

namespace moe::binding {

static void initialize(const Napi::CallbackInfo& info) {
  Addon& addon = Addon::of(info.Env());
  addon.error_class = Napi::Persistent(info[0].As<Napi::Function>());
  addon.variables = Napi::Persistent(info[1].As<Napi::Function>());
}

static Napi::Object define_exports(Napi::Env env, Napi::Object exports) {
  env.SetInstanceData(new Addon);
  Addon::of(env).array_buffer = Napi::Persistent(env.Global().Get("ArrayBuffer").As<Napi::Function>());
  DeviceObject::define(env);
  TensorObject::define(env);
  PackedExpertsObject::define(env);
  LayerObject::define(env);
  CapturedForwardObject::define(env);
  OffloadBudgetObject::define(env);
  CancellationObject::define(env);
  exports.Set("initialize", function<initialize>(env, "initialize"));
  exports.Set("open", function<DeviceObject::open>(env, "open"));
  exports.Set("operators", function<operators>(env, "operators"));
  exports.Set("weightFormat", function<weight_format_by_name>(env, "weightFormat"));
  exports.Set("convertGgufCodes", function<convert_gguf_codes>(env, "convertGgufCodes"));
  exports.Set("replayOffload", function<replay_offload>(env, "replayOffload"));
  exports.Set("loadDevice", function<load_device_library>(env, "loadDevice"));
  exports.Set("devices", function<devices>(env, "devices"));
  exports.Set("kernels", function<kernels>(env, "kernels"));
  exports.Set("buildInfo", function<build_info>(env, "buildInfo"));
  exports.Set("cpuInfo", function<cpu_info>(env, "cpuInfo"));
  exports.Set("productKernel", function<product_kernel>(env, "productKernel"));
  exports.Set("ceilings", function<ceilings>(env, "ceilings"));
  exports.Set("readRate", function<read_rate>(env, "readRate"));
  return exports;
}

}  // namespace moe::binding

NAPI_MODULE_INIT() {
  return moe::binding::at_boundary(env, [&] { return moe::binding::define_exports(env, Napi::Object(env, exports)); });
}
