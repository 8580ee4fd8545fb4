// A device and its stream, as JavaScript holds them.
#pragma once

#include <functional>
#include <memory>
#include <optional>

#include "binding/boundary.h"
#include "binding/call_sites.h"
#include "binding/cancellation.h"
#include "binding/napi_setup.h"
#include "core/backend.h"
#include "core/content.h"
#include "core/storage.h"
#include "core/stream.h"

namespace moe::binding {

class DeviceObject : public Object<DeviceObject> {
 public:
  static constexpr const char* kClass = "Device";

  static void define(Napi::Env env);
  static Napi::Value open(const Napi::CallbackInfo& info);

  explicit DeviceObject(const Napi::CallbackInfo& info);
  ~DeviceObject() override;

  // Both throw DISPOSED after close() and dispose().
  Stream& stream(Napi::Env env);
  const std::shared_ptr<Backend>& backend(Napi::Env env) const;
  // The CPU, for work that the device leaves to it on its own stream; opened when it is first asked for.
  const std::shared_ptr<Backend>& host(Napi::Env env);

  // Enqueues `work` for the JavaScript function `name`. It fails with ABORTED if what cancelWith() gave is cancelled by
  // the time that it would begin.
  void enqueue(Napi::Env env, const char* name, std::function<Status()> work, Uses uses);
  // Runs `work` after all earlier work and waits for it; throws the first error since the last wait.
  void run_and_wait(Napi::Env env, std::function<Status()> work, Uses uses);
  // Both wait for all work enqueued so far. They fail with the first error since the last wait, or with that of the
  // work which wrote what is read.
  Napi::Value wait(Napi::Env env, Uses read);
  void wait_sync(Napi::Env env, Uses read);
  // Memory that results pass through on their way into an array of JavaScript's. It is used again once nobody else has
  // it, because fresh memory would cost more than the copy: the system clears it page by page.
  std::shared_ptr<void> staging(Napi::Env env, size_t bytes);
  // Enqueues `work`. The promise resolves to result(env) once it and all earlier work are done, or rejects with the
  // failure that it is told.
  Napi::Value promise(Napi::Env env, std::function<Status()> work, Uses uses,
                      std::function<Napi::Value(Napi::Env)> result, Told told = Told::first);

 private:
  struct Completion;
  struct Returns;
  // A tensor over `data`, which is `owner`'s. Once nothing uses the memory any more, `owner` is given back on
  // JavaScript's thread: called if it is a function, else let go. It is not called if this throws.
  Napi::Value tensor_over(const Napi::CallbackInfo& info, void* data, size_t bytes, DType type,
                          const std::vector<int64_t>& shape, Napi::Value owner);
  static void give_back(Napi::Env env, Completion& completion);
  // Counts `made` as pending and hands it to `enqueue` as what is called when the work is done.
  void await(Napi::Env env, std::unique_ptr<Completion> made, const std::function<void(Stream::Done)>& enqueue);
  // Waits for all work and lets go of a stream of the caller's.
  std::function<Status()> last_work() const;
  // Makes the device unusable for new calls. `closed`, if there is one, settles when all work is done.
  void end_stream(Napi::Env env, std::optional<Napi::Promise::Deferred> closed);
  // Gives up the backends and the memory that results pass through. Tensors, layers and work that still hold them keep
  // them alive.
  void let_go();
  static void complete(Napi::Env env, Napi::Function, DeviceObject* device, Completion* completion) noexcept;
  using Completions = Napi::TypedThreadSafeFunction<DeviceObject, Completion, &DeviceObject::complete>;

  // Ends the stream and the completions, and drops work that has not begun. Runs at garbage collection or when the
  // environment ends, before it takes away what completions need.
  void end() noexcept;
  static void end_device(void* device);
  // Lets a completion end the stream of a device that is collected while it works.
  void leave_stream();
  static void end_left(void* completion);
  // The error of a failed wait. If call sites are kept, its cause is the call whose work failed.
  Napi::Value error_of_wait(Napi::Env env, const Status& status) const;
  void settle(Napi::Env env, Completion& completion) const;

  Napi::Value description(const Napi::CallbackInfo& info);
  Napi::Value kind(const Napi::CallbackInfo& info);
  Napi::Value empty(const Napi::CallbackInfo& info);
  Napi::Value synchronize(const Napi::CallbackInfo& info);
  void synchronize_sync(const Napi::CallbackInfo& info);
  Napi::Value submitted(const Napi::CallbackInfo& info);
  Napi::Value warnings(const Napi::CallbackInfo& info);
  Napi::Value busy_seconds(const Napi::CallbackInfo& info);
  void dispose(const Napi::CallbackInfo& info);
  Napi::Value close(const Napi::CallbackInfo& info);
  // Reads an operator's description from an object and enqueues it.
  template <class Operator>
  void run(const Napi::CallbackInfo& info);
  Napi::Value packed_experts(const Napi::CallbackInfo& info);
  Napi::Value layer(const Napi::CallbackInfo& info);
  Napi::Value offload_budget(const Napi::CallbackInfo& info);
  Napi::Value weight_layout(const Napi::CallbackInfo& info);
  Napi::Value map_file(const Napi::CallbackInfo& info);
  Napi::Value wrap(const Napi::CallbackInfo& info);
  Napi::Value wrap_pointer(const Napi::CallbackInfo& info);
  Napi::Value cancellation(const Napi::CallbackInfo& info);
  void cancel_with(const Napi::CallbackInfo& info);

  std::shared_ptr<Backend> backend_, host_;
  DeviceOptions options_;
  std::string kind_;
  bool keeps_call_sites_ = false;
  CallSites call_sites_;
  Completions completions_;
  std::shared_ptr<Returns> returns_;
  std::shared_ptr<const Cancelled> cancelled_;  // of the work that is enqueued now; null: stays
  std::shared_ptr<void> staging_;
  size_t staging_bytes_ = 0;
  // True until the device is open, and again after end().
  bool ended_ = true;
  int pending_ = 0;                 // promises not yet settled; JavaScript thread only
  std::unique_ptr<Stream> stream_;  // last: its work uses all of the above
};

}  // namespace moe::binding
