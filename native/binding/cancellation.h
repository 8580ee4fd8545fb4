// A switch that cancels enqueued work which has not begun, as JavaScript holds it.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>

#include "binding/boundary.h"
#include "binding/napi_setup.h"

namespace moe::binding {

// 0 until the work is cancelled, then the number of the reason, see AbortReasons.
using Cancelled = std::atomic<uint64_t>;

class CancellationObject : public Object<CancellationObject> {
 public:
  static constexpr const char* kClass = "CancellationHandle";

  static void define(Napi::Env env);
  static Napi::Object create(Napi::Env env);

  explicit CancellationObject(const Napi::CallbackInfo& info) : Object(info) {}
  std::shared_ptr<const Cancelled> cancelled() const { return cancelled_; }

 private:
  void cancel(const Napi::CallbackInfo& info);
  Napi::Value pending(const Napi::CallbackInfo& info);

  // Work that it could cancel has a copy.
  std::shared_ptr<Cancelled> cancelled_ = std::make_shared<Cancelled>(0);
};

}  // namespace moe::binding
