// A budget of slots, as JavaScript holds it.
#pragma once

#include <memory>

#include "binding/device.h"
#include "binding/napi_setup.h"
#include "binding/reported_bytes.h"

namespace moe::binding {

class OffloadBudgetObject : public Object<OffloadBudgetObject> {
 public:
  static constexpr const char* kClass = "OffloadBudgetHandle";

  static void define(Napi::Env env);
  // The options are the object info[0].
  static Napi::Object create(Napi::Object device, DeviceObject& owner, const Napi::CallbackInfo& info);

  explicit OffloadBudgetObject(const Napi::CallbackInfo& info) : Object(info) {}
  // For a layer of this device. Throws DISPOSED, and DEVICE_MISMATCH for another device's budget.
  const std::shared_ptr<OffloadBudget>& of(Napi::Env env, const DeviceObject& device) const;
  // Tells V8 how much memory there is for slots now.
  void report(Napi::BasicEnv env);
  void Finalize(Napi::BasicEnv env) override;

 private:
  const std::shared_ptr<OffloadBudget>& budget(Napi::Env env) const;
  void release(Napi::BasicEnv env);
  Napi::Value stats(const Napi::CallbackInfo& info);
  Napi::Value byte_length(const Napi::CallbackInfo& info);
  void free(const Napi::CallbackInfo& info);

  Napi::ObjectReference device_;
  std::shared_ptr<Backend> backend_;
  std::shared_ptr<OffloadBudget> budget_;
  ReportedBytes reported_;
};

}  // namespace moe::binding
