// The exports table.
#include "binding/addon.h"
#include "binding/captured_forward.h"
#include "binding/device.h"
#include "binding/layer.h"
#include "binding/machine.h"
#include "binding/operators.h"
#include "binding/packed_experts.h"
#include "binding/tensor.h"

namespace moe::binding {

static void initialize(const Napi::CallbackInfo& info) {
  Addon::of(info.Env()).error_class = Napi::Persistent(info[0].As<Napi::Function>());
}

static Napi::Object define_exports(Napi::Env env, Napi::Object exports) {
  env.SetInstanceData(new Addon);
  DeviceObject::define(env);
  TensorObject::define(env);
  PackedExpertsObject::define(env);
  LayerObject::define(env);
  CapturedForwardObject::define(env);
  exports.Set("initialize", Napi::Function::New<initialize>(env, "initialize"));
  exports.Set("open", Napi::Function::New<DeviceObject::open>(env, "open"));
  exports.Set("operators", Napi::Function::New<operators>(env, "operators"));
  exports.Set("devices", Napi::Function::New<devices>(env, "devices"));
  exports.Set("kernels", Napi::Function::New<kernels>(env, "kernels"));
  exports.Set("buildInfo", Napi::Function::New<build_info>(env, "buildInfo"));
  exports.Set("cpuInfo", Napi::Function::New<cpu_info>(env, "cpuInfo"));
  exports.Set("ceilings", Napi::Function::New<ceilings>(env, "ceilings"));
  return exports;
}

}  // namespace moe::binding

static Napi::Object define_module(Napi::Env env, Napi::Object exports) {
  return moe::binding::define_exports(env, exports);
}
NODE_API_MODULE(moe_kernels, define_module)
