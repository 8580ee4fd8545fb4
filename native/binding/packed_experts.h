// Packed expert weights, as JavaScript holds them.
#pragma once

#include <memory>

#include "binding/device.h"
#include "binding/napi_setup.h"

namespace moe::binding {

class PackedExpertsObject : public Napi::ObjectWrap<PackedExpertsObject> {
 public:
  static void define(Napi::Env env);
  static Napi::Object create(Napi::Object device, DeviceObject& owner, const Napi::CallbackInfo& info);
  static const napi_type_tag kTag;

  explicit PackedExpertsObject(const Napi::CallbackInfo& info);
  void Finalize(Napi::BasicEnv env) override;

  // Throws DISPOSED after free().
  const std::shared_ptr<PackedExperts>& packed(Napi::Env env) const;

 private:
  void release(Napi::BasicEnv env);
  void set_expert(const Napi::CallbackInfo& info);
  Napi::Value byte_length(const Napi::CallbackInfo& info);
  void free(const Napi::CallbackInfo& info);

  Napi::ObjectReference device_;
  std::shared_ptr<PackedExperts> packed_;
  int64_t reported_ = 0;
};

}  // namespace moe::binding
