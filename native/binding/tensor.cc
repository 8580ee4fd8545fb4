#include "binding/tensor.h"

#include <algorithm>
#include <cstddef>

#include "binding/addon.h"
#include "binding/arguments.h"
#include "binding/errors.h"
#include "core/host_memory.h"

namespace moe::binding {

void TensorObject::define(Napi::Env env) {
  const std::vector<PropertyDescriptor> members = {
      InstanceMethod<&TensorObject::make_view>("view"),
      InstanceMethod<&TensorObject::write>("write"),
      InstanceMethod<&TensorObject::overwrite>("overwrite"),
      InstanceMethod<&TensorObject::clear>("clear"),
      InstanceMethod<&TensorObject::read>("read"),
      InstanceMethod<&TensorObject::read_sync>("readSync"),
      InstanceMethod<&TensorObject::read_into_array>("readInto"),
      InstanceMethod<&TensorObject::read_into_array_sync>("readIntoSync"),
      InstanceMethod<&TensorObject::wait>("wait"),
      InstanceMethod<&TensorObject::wait_sync>("waitSync"),
      InstanceMethod<&TensorObject::peek>("peek"),
      InstanceAccessor<&TensorObject::failed>("failed"),
      InstanceMethod<&TensorObject::map>("map"),
      InstanceMethod<&TensorObject::address>("address"),
      InstanceMethod<&TensorObject::to_host>("toHost"),
      InstanceMethod<&TensorObject::to_device>("toDevice"),
      InstanceMethod<&TensorObject::free>("free"),
  };
  Addon::of(env).tensor = Napi::Persistent(DefineClass(env, members));
}

Napi::Object TensorObject::create(Napi::Object device, DType dtype, const std::vector<int64_t>& shape) {
  const Napi::Env env = device.Env();
  DeviceObject& owner = *DeviceObject::Unwrap(device);
  owner.stream(env);
  double size = static_cast<double>(info(dtype).bytes);
  for (const int64_t dimension : shape) size *= static_cast<double>(dimension);
  if (size > 0x1p53) throw_error(env, {Code::out_of_memory, "shape: expected at most 2^53 bytes"});
  std::shared_ptr<Storage> storage;
  check(env, Storage::create(owner.backend(env), static_cast<size_t>(size), &storage));
  Napi::Object object = Addon::of(env).tensor.New({});
  TensorObject& tensor = *Unwrap(object);
  tensor.adopt(device, std::move(storage), 0, dtype, shape);
  tensor.reported_.set(env, static_cast<int64_t>(size));
  return object;
}

Napi::Object TensorObject::over(Napi::Object device, std::shared_ptr<Storage> storage) {
  const int64_t bytes = static_cast<int64_t>(storage->bytes());
  return over(device, std::move(storage), DType::u8, {bytes});
}

Napi::Object TensorObject::over(Napi::Object device, std::shared_ptr<Storage> storage, DType dtype,
                                const std::vector<int64_t>& shape) {
  Napi::Object object = Addon::of(device.Env()).tensor.New({});
  Unwrap(object)->adopt(device, std::move(storage), 0, dtype, shape);
  return object;
}

void TensorObject::adopt(Napi::Object device, std::shared_ptr<Storage> storage, size_t offset, DType dtype,
                         const std::vector<int64_t>& shape) {
  device_ = Napi::Persistent(device);
  storage_ = std::move(storage);
  offset_ = offset;
  view_.dtype = dtype;
  view_.rank = static_cast<int>(shape.size());
  for (size_t i = 0; i < shape.size(); ++i) view_.shape[i] = shape[i];
}

void TensorObject::Finalize(Napi::BasicEnv env) { release(env); }

void TensorObject::release(Napi::BasicEnv env) {
  storage_.reset();
  reported_.set(env, 0);
}

DeviceObject& TensorObject::device(Napi::Env env) {
  if (storage_ == nullptr) throw_error(env, {Code::disposed, "tensor: used after dispose()"});
  return *DeviceObject::Unwrap(device_.Value());
}

TensorView TensorObject::view() const {
  TensorView view = view_;
  view.data = storage_->data() + offset_;
  return view;
}

Napi::Value TensorObject::make_view(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  device(env);
  const std::vector<int64_t> sizes = shape(env, info[0]);
  const int64_t element_offset = integer(env, info[1], "elementOffset");
  // As a double, since the product may overflow.
  double end = 1;
  for (const int64_t dimension : sizes) end *= static_cast<double>(dimension);
  end += static_cast<double>(element_offset);
  if (element_offset < 0 || end > static_cast<double>(view_.size())) {
    throw_error(env, {Code::invalid_argument, "view: outside the tensor"});
  }
  Napi::Object object = Addon::of(env).tensor.New({});
  const size_t offset = offset_ + static_cast<size_t>(element_offset) * moe::info(view_.dtype).bytes;
  Unwrap(object)->adopt(device_.Value(), storage_, offset, view_.dtype, sizes);
  return object;
}

Napi::Value TensorObject::failed(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  return Napi::Boolean::New(env, device(env).stream(env).idle() && storage_->failure_in(part()) != nullptr);
}

Napi::Value TensorObject::map(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  DeviceObject& owner = device(env);
  const TensorView mapped = view();
  const size_t bytes = static_cast<size_t>(mapped.bytes());
  if (!owner.backend(env)->host_addressable() || storage_->is_foreign()) return env.Undefined();
  if (bytes == 0) return Napi::Uint8Array::New(env, 0);
  const auto array = [&] { return Napi::Uint8Array::New(env, bytes, mapped_.Value(), 0); };
  // free() must find the only one.
  if (!mapped_.IsEmpty() && !mapped_.Value().IsEmpty() && !mapped_.Value().IsDetached()) return array();
  auto keep = std::make_unique<std::shared_ptr<Storage>>(storage_);
  napi_value buffer;
  const napi_status status = napi_create_external_arraybuffer(
      env, mapped.data, bytes, [](napi_env, void*, void* hint) { delete static_cast<std::shared_ptr<Storage>*>(hint); },
      keep.get(), &buffer);
  // Electron forbids external memory; the caller then copies.
  if (status != napi_ok) return env.Undefined();
  (void)keep.release();
  mapped_ = Napi::Weak(Napi::ArrayBuffer(env, buffer));
  return array();
}

Napi::Value TensorObject::address(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  device(env);
  return Napi::BigInt::New(env, static_cast<uint64_t>(reinterpret_cast<uintptr_t>(view().data)));
}

Napi::Value TensorObject::to_host(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  DeviceObject& owner = device(env);
  const TensorView source = view();
  const auto bytes = static_cast<size_t>(source.bytes());
  std::shared_ptr<void> memory;
  check(env, host_memory(std::max<size_t>(bytes, 1), &memory));
  auto copy = std::make_shared<Storage>(std::move(memory), bytes);
  Uses uses = reads();
  uses.writes(copy, {0, bytes});
  owner.enqueue(
      env, "toHost",
      [backend = owner.backend(env), source, target = copy->data(), bytes] {
        return bytes == 0 ? Status{} : backend->read(target, source.data, bytes);
      },
      std::move(uses));
  Napi::Object object =
      over(device_.Value(), std::move(copy), source.dtype, {source.shape, source.shape + source.rank});
  Unwrap(object)->reported_.set(env, static_cast<int64_t>(bytes));
  return object;
}

Napi::Value TensorObject::to_device(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  DeviceObject& owner = device(env);
  const TensorView source = view();
  const auto bytes = static_cast<size_t>(source.bytes());
  Napi::Object object = create(device_.Value(), source.dtype, {source.shape, source.shape + source.rank});
  const TensorObject& copy = *Unwrap(object);
  Uses uses = reads();
  uses.writes(copy.storage_, copy.part());
  owner.enqueue(
      env, "toDevice",
      [backend = owner.backend(env), source, target = copy.view().data, bytes] {
        return bytes == 0 ? Status{} : backend->write(target, source.data, bytes);
      },
      std::move(uses));
  return object;
}

void TensorObject::free(const Napi::CallbackInfo& info) {
  const Napi::HandleScope scope(info.Env());
  // Otherwise the memory would live until the array is collected.
  if (!mapped_.IsEmpty() && !mapped_.Value().IsEmpty()) mapped_.Value().Detach();
  release(info.Env());
}

}  // namespace moe::binding
