// A switch that cancels enqueued work which has not begun, as JavaScript holds it.
#pragma once

#include <atomic>
#include <memory>

#include "binding/boundary.h"
#include "binding/napi_setup.h"

namespace moe::binding {

class CancellationObject : public Object<CancellationObject> {
 public:
  static const napi_type_tag kTag;

  static void define(Napi::Env env);
  static Napi::Object create(Napi::Env env);

  explicit CancellationObject(const Napi::CallbackInfo& info);
  // True once cancelled.
  std::shared_ptr<const std::atomic<bool>> cancelled() const { return cancelled_; }

 private:
  void cancel(const Napi::CallbackInfo&) { cancelled_->store(true, std::memory_order_release); }

  std::shared_ptr<std::atomic<bool>> cancelled_ = std::make_shared<std::atomic<bool>>(false);
};

}  // namespace moe::binding
