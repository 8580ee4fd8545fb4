// Tensors over memory that is somebody else's.
#include <cstdint>
#include <optional>

#include "binding/arguments.h"
#include "binding/arrays.h"
#include "binding/completion.h"
#include "binding/errors.h"
#include "binding/tensor.h"

namespace moe::binding {

Napi::Value DeviceObject::tensor_over(const Napi::CallbackInfo& info, void* data, size_t bytes, DType type,
                                      const std::vector<int64_t>& shape, Napi::Value owner) {
  const std::shared_ptr<Backend> backend = this->backend(info.Env());
  const auto tensor_of = [&](std::shared_ptr<void> memory) {
    std::shared_ptr<Storage> storage = Storage::foreign(std::move(memory), bytes);
    return TensorObject::over(info.This().As<Napi::Object>(), std::move(storage), type, shape);
  };
  if (!owner.IsObject()) return tensor_of({data, [](void*) {}});
  auto made = std::make_unique<Completion>();
  made->owner = std::make_unique<Napi::ObjectReference>(Napi::Persistent(owner.As<Napi::Object>()));
  made->returns = returns_;
  Completion* const completion = made.release();
  const auto let_go = [backend, completion](void*) {
    if (!completion->has_tensor) {
      // There was no memory for the tensor: the caller is told that, and still has what is wrapped.
      delete completion;
      return;
    }
    // Work that is enqueued has let go of the memory already, but a GPU may still read and write it. This function does
    // not allocate, and the completion may be gone as soon as it is given.
    (void)backend->settle([completion] {
      const std::shared_ptr<Returns> returns = completion->returns;
      returns->give(completion);
    });
  };
  // If there is no memory for the pointer, it calls let_go() too.
  const Napi::Value tensor = tensor_of({data, let_go});
  completion->has_tensor = true;
  return tensor;
}

void DeviceObject::give_back(Napi::Env env, Completion& completion) {
  const Napi::HandleScope scope(env);
  try {
    const Napi::Value owner = completion.owner->Value();
    if (owner.IsFunction()) owner.As<Napi::Function>().Call({});
  } catch (const Napi::Error& error) {
    // Nobody called this who could catch it.
    napi_fatal_exception(env, error.Value());
  }
}

// Bytes of a tensor over foreign memory.
static size_t foreign_bytes(Napi::Env env, const void* data, DType type, const std::vector<int64_t>& shape) {
  double bytes = info(type).bytes;
  for (const int64_t size : shape) bytes *= static_cast<double>(size);
  if (bytes > 0x1p53) throw_error(env, {Code::invalid_argument, "shape: expected at most 2^53 bytes"});
  if (reinterpret_cast<uintptr_t>(data) % static_cast<size_t>(info(type).bytes) != 0) {
    throw_error(env, {Code::invalid_argument, "address: expected a multiple of the size of the dtype"});
  }
  return static_cast<size_t>(bytes);
}

Napi::Value DeviceObject::wrap(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  if (!backend(env)->host_addressable()) {
    throw_error(env,
                {Code::unsupported_operation,
                 "wrap: expected a device that computes in the CPU's memory; copy the array with device.tensor()"});
  }
  const DType type = dtype(env, info[1]);
  const std::vector<int64_t> sizes = shape(env, info[2]);
  const std::optional<ArrayMemory> source = array_memory(info[0]);
  if (!source) throw_error(env, {Code::invalid_argument, "source: expected a typed array"});
  const size_t bytes = foreign_bytes(env, source->data, type, sizes);
  void* const data = bytes_of_array(info[0], bytes);
  if (data == nullptr) throw_error(env, {Code::shape_mismatch, "source: expected the tensor's bytes as a Uint8Array"});
  return tensor_over(info, data, bytes, type, sizes, info[0]);
}

Napi::Value DeviceObject::wrap_pointer(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  stream(env);
  const DType type = dtype(env, info[1]);
  const std::vector<int64_t> sizes = shape(env, info[2]);
  void* const data = address(env, info[0], "address");
  const size_t bytes = foreign_bytes(env, data, type, sizes);
  return tensor_over(info, data, bytes, type, sizes, info[3]);
}

}  // namespace moe::binding
