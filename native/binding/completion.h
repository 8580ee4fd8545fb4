// What a device's thread-safe function brings to JavaScript's thread.
#pragma once

#include <memory>
#include <mutex>
#include <optional>

#include "binding/device.h"

namespace moe::binding {

inline const Status& disposed() {
  static const Status status{Code::disposed, "device: disposed of before this work began; await device.close() first"};
  return status;
}

// A pending promise, or the end of the stream. Created and settled on the JavaScript thread; in between, the stream's
// thread sets `status`.
struct DeviceObject::Completion {
  std::optional<Napi::Promise::Deferred> deferred;
  std::function<Napi::Value(Napi::Env)> result;
  bool ends_stream = false;
  Status status = {};
  // What is to be given back, if a tensor over its memory could be made.
  std::unique_ptr<Napi::ObjectReference> owner = {};
  bool has_tensor = false;
  std::shared_ptr<Returns> returns = {};
  // Of a device that was collected while it worked.
  std::unique_ptr<Stream> left = {};
  Completions completions = {};

  void end_left();
};

// Gives owners of memory back to JavaScript's thread, until there is nobody left who would take them.
struct DeviceObject::Returns {
  Completions completions = {};
  std::mutex mutex = {};
  bool open = true;

  void give(Completion* completion) noexcept {
    std::lock_guard lock(mutex);
    if (open && completions.NonBlockingCall(completion) == napi_ok) return;
    // The environment is ending, and takes what its references refer to with it.
    (void)completion->owner.release();
    delete completion;
  }
  void close() noexcept {
    std::lock_guard lock(mutex);
    open = false;
  }
};

inline void DeviceObject::Completion::end_left() {
  left->cancel(disposed());
  left.reset();
  returns->close();
  completions.Release();
}

}  // namespace moe::binding
