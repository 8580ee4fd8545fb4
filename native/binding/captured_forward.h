// A captured forward, as JavaScript holds it.
#pragma once

#include <memory>
#include <vector>

#include "binding/device.h"
#include "binding/napi_setup.h"

namespace moe::binding {

class CapturedForwardObject : public Object<CapturedForwardObject> {
 public:
  static constexpr const char* kClass = "CapturedForwardHandle";

  static void define(Napi::Env env);
  // Enqueues the capture of `stages` on `device` (the JavaScript object). `uses` is what a replay reads and writes.
  static Napi::Object create(Napi::Object device, std::shared_ptr<Layer> layer, std::vector<Stage> stages,
                             const LayerForward& forward, Uses uses);

  explicit CapturedForwardObject(const Napi::CallbackInfo& info) : Object(info) {}

 private:
  struct Captured;

  void replay(const Napi::CallbackInfo& info);
  void free(const Napi::CallbackInfo& info);

  Napi::ObjectReference device_;
  std::shared_ptr<Captured> captured_;
};

}  // namespace moe::binding
