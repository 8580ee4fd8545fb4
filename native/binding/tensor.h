// A tensor on a device, as JavaScript holds it.
#pragma once

#include <memory>

#include "binding/device.h"
#include "binding/napi_setup.h"
#include "binding/reported_bytes.h"
#include "core/tensor_view.h"

namespace moe::binding {

class TensorObject : public Object<TensorObject> {
 public:
  static constexpr const char* kClass = "TensorHandle";

  static void define(Napi::Env env);
  // Creates a tensor of `device` (the JavaScript object) in new memory.
  static Napi::Object create(Napi::Object device, DType dtype, const std::vector<int64_t>& shape);
  // Creates a tensor of bytes that shares `storage`.
  static Napi::Object over(Napi::Object device, std::shared_ptr<Storage> storage);
  static Napi::Object over(Napi::Object device, std::shared_ptr<Storage> storage, DType dtype,
                           const std::vector<int64_t>& shape);
  explicit TensorObject(const Napi::CallbackInfo& info) : Object(info) {}
  void Finalize(Napi::BasicEnv env) override;

  TensorView view() const;
  // Its bytes within its storage.
  Part part() const { return {offset_, offset_ + static_cast<size_t>(view_.bytes())}; }
  const std::shared_ptr<Storage>& storage() const { return storage_; }

 private:
  void adopt(Napi::Object device, std::shared_ptr<Storage> storage, size_t offset, DType dtype,
             const std::vector<int64_t>& shape);
  DeviceObject& device(Napi::Env env);
  void release(Napi::BasicEnv env);
  // What read() returns: the raw bytes or, if `converts`, float32 values.
  size_t read_bytes(bool converts) const;
  std::function<Status()> read_into(void* target, bool converts) const;
  Uses reads() const;

  Napi::Value make_view(const Napi::CallbackInfo& info);
  void write(const Napi::CallbackInfo& info);
  void overwrite(const Napi::CallbackInfo& info);
  // Copies a typed array in: in stream order or, if no enqueued work uses the tensor, at once.
  void store(const Napi::CallbackInfo& info, bool unused);
  void clear(const Napi::CallbackInfo& info);
  Napi::Value read(const Napi::CallbackInfo& info);
  Napi::Value read_sync(const Napi::CallbackInfo& info);
  Napi::Value read_into_array(const Napi::CallbackInfo& info);
  void read_into_array_sync(const Napi::CallbackInfo& info);
  Napi::Value wait(const Napi::CallbackInfo& info);
  void wait_sync(const Napi::CallbackInfo& info);
  Napi::Value peek(const Napi::CallbackInfo& info);
  Napi::Value failed(const Napi::CallbackInfo& info);
  Napi::Value map(const Napi::CallbackInfo& info);
  Napi::Value address(const Napi::CallbackInfo& info);
  // A copy in the host's memory, in order with the enqueued work; only to_device() and free() may be called on it.
  Napi::Value to_host(const Napi::CallbackInfo& info);
  // A copy of such a one on the device, in order too.
  Napi::Value to_device(const Napi::CallbackInfo& info);
  void free(const Napi::CallbackInfo& info);

  Napi::ObjectReference device_;
  std::shared_ptr<Storage> storage_;
  size_t offset_ = 0;
  TensorView view_;  // data is unset: see view()
  // The array that map() returned, while it exists. free() detaches it.
  Napi::Reference<Napi::ArrayBuffer> mapped_;
  ReportedBytes reported_;  // by the handle that allocated them
};

}  // namespace moe::binding
