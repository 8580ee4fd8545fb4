// Packed expert weights, as JavaScript holds them.
#pragma once

#include <memory>

#include "binding/device.h"
#include "binding/napi_setup.h"
#include "binding/reported_bytes.h"

namespace moe::binding {

class PackedExpertsObject : public Object<PackedExpertsObject> {
 public:
  static constexpr const char* kClass = "PackedHandle";

  static void define(Napi::Env env);
  static Napi::Object create(Napi::Object device, DeviceObject& owner, const Napi::CallbackInfo& info);
  explicit PackedExpertsObject(const Napi::CallbackInfo& info) : Object(info) {}
  void Finalize(Napi::BasicEnv env) override;

  // For work that reads them, as `uses` notes. Throws DISPOSED after free().
  const PackedExperts* read(Napi::Env env, Uses& uses) const;

 private:
  const std::shared_ptr<PackedExperts>& packed(Napi::Env env) const;
  void release(Napi::BasicEnv env);
  void set_expert(const Napi::CallbackInfo& info);
  Napi::Value failed(const Napi::CallbackInfo& info);
  Napi::Value byte_length(const Napi::CallbackInfo& info);
  void free(const Napi::CallbackInfo& info);

  Napi::ObjectReference device_;
  std::shared_ptr<PackedExperts> packed_;
  ReportedBytes reported_;
};

}  // namespace moe::binding
