// The values of tensors on their way from and to JavaScript's arrays.
#include <algorithm>
#include <cstring>
#include <optional>

#include "binding/arguments.h"
#include "binding/arrays.h"
#include "binding/errors.h"
#include "binding/tensor.h"
#include "core/convert.h"
#include "core/host_memory.h"

namespace moe::binding {

namespace {

// Converting to bf16 takes no longer than copying. To f16 it takes several times as long, so that more values than
// these are copied and converted by the stream.
constexpr size_t kConvertedAtOnce = size_t{1} << 16;

// A copy that JavaScript cannot change while the stream reads it.
Status copy_of_source(const void* source, size_t bytes, std::shared_ptr<void>* copy) {
  MOE_TRY(host_memory(bytes, copy));
  std::memcpy(copy->get(), source, bytes);
  return {};
}

// What passes through memory of the host on the way to or from a device's, a piece at a time: tensors may be larger
// than what the host has.
constexpr int64_t kPieceBytes = int64_t{1} << 20;

// Calls piece(begin, count) for all `size` elements of `bytes` bytes each.
template <class Piece>
Status in_pieces(int64_t size, int64_t bytes, Piece&& piece) {
  const int64_t at_once = kPieceBytes / bytes;
  for (int64_t begin = 0; begin < size; begin += at_once) MOE_TRY(piece(begin, std::min(at_once, size - begin)));
  return {};
}

std::vector<uint16_t> halves_of_piece(const TensorView& view) {
  return std::vector<uint16_t>(static_cast<size_t>(std::min(view.size(), kPieceBytes / int64_t{sizeof(uint16_t)})));
}

Status write_halves(Backend& backend, const TensorView& target, const float* values) {
  std::vector<uint16_t> halves = halves_of_piece(target);
  return in_pieces(target.size(), sizeof(uint16_t), [&](int64_t begin, int64_t count) {
    f32_to_halves(target.dtype, values + begin, count, halves.data());
    return backend.write(target.as<uint16_t>() + begin, halves.data(), static_cast<size_t>(count) * sizeof(uint16_t));
  });
}

Status read_halves(Backend& backend, const TensorView& source, float* values) {
  std::vector<uint16_t> halves = halves_of_piece(source);
  return in_pieces(source.size(), sizeof(uint16_t), [&](int64_t begin, int64_t count) -> Status {
    MOE_TRY(backend.read(halves.data(), source.as<uint16_t>() + begin, static_cast<size_t>(count) * sizeof(uint16_t)));
    halves_to_f32(source.dtype, halves.data(), count, values + begin);
    return {};
  });
}

Status write_zeros(Backend& backend, const TensorView& target) {
  static char zeros[kPieceBytes];
  return in_pieces(target.bytes(), 1, [&](int64_t begin, int64_t count) {
    return backend.write(target.as<char>() + begin, zeros, static_cast<size_t>(count));
  });
}

[[noreturn]] void throw_target(Napi::Env env) {
  throw_error(env, {Code::invalid_argument, "target: expected a Uint8Array of the tensor's bytes"});
}

}  // namespace

void TensorObject::write(const Napi::CallbackInfo& info) { store(info, true); }

void TensorObject::overwrite(const Napi::CallbackInfo& info) { store(info, false); }

void TensorObject::store(const Napi::CallbackInfo& info, bool unused) {
  const Napi::Env env = info.Env();
  DeviceObject& owner = device(env);
  const bool converts = info[1].ToBoolean();
  const TensorView target = view();
  const size_t element = converts ? sizeof(float) : moe::info(target.dtype).bytes;
  const std::optional<ArrayMemory> source = array_memory(info[0]);
  if (!source || static_cast<int64_t>(source->length) != target.size() || source->bytes != source->length * element ||
      (converts && source->type != napi_float32_array)) {
    throw_error(env, {Code::invalid_argument,
                      "data: expected a typed array with as many values as the tensor, each of the dtype's size"});
  }
  if (source->length == 0) return;
  const std::shared_ptr<Backend>& backend = owner.backend(env);
  const bool slow = converts && target.dtype == DType::f16 && source->length > kConvertedAtOnce;
  if (unused && backend->host_addressable() && !slow) {
    if (converts) {
      f32_to_halves(target.dtype, static_cast<const float*>(source->data), target.size(), target.data);
    } else {
      std::memcpy(target.data, source->data, source->bytes);
    }
    return;
  }
  std::shared_ptr<void> copy;
  check(env, copy_of_source(source->data, source->bytes, &copy));
  Uses uses;
  uses.writes(storage_, part());
  owner.enqueue(
      env, "write",
      [backend, copy = std::move(copy), target, converts] {
        if (converts) return write_halves(*backend, target, static_cast<const float*>(copy.get()));
        return backend->write(target.data, copy.get(), static_cast<size_t>(target.bytes()));
      },
      std::move(uses));
}

void TensorObject::clear(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  DeviceObject& owner = device(env);
  const TensorView target = view();
  const size_t bytes = static_cast<size_t>(target.bytes());
  if (bytes == 0) return;
  if (owner.backend(env)->host_addressable()) {
    HostMemory::of_process().zero(target.data, bytes);
    return;
  }
  Uses uses;
  uses.writes(storage_, part());
  owner.enqueue(
      env, "zeros", [backend = owner.backend(env), target] { return write_zeros(*backend, target); }, std::move(uses));
}

size_t TensorObject::read_bytes(bool converts) const {
  return static_cast<size_t>(converts ? view_.size() * static_cast<int64_t>(sizeof(float)) : view_.bytes());
}

std::function<Status()> TensorObject::read_into(void* target, bool converts) const {
  const std::shared_ptr<Backend>& backend = DeviceObject::Unwrap(device_.Value())->backend(device_.Env());
  return [backend, source = view(), target, converts]() -> Status {
    if (source.size() == 0) return backend->synchronize();
    if (!converts) {
      MOE_TRY(backend->read(target, source.data, static_cast<size_t>(source.bytes())));
    } else if (backend->host_addressable()) {
      halves_to_f32(source.dtype, source.data, source.size(), static_cast<float*>(target));
    } else {
      MOE_TRY(read_halves(*backend, source, static_cast<float*>(target)));
    }
    return backend->synchronize();
  };
}

Uses TensorObject::reads() const {
  Uses uses;
  uses.reads(storage_, part());
  return uses;
}

Napi::Value TensorObject::read(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  DeviceObject& owner = device(env);
  const bool converts = info[0].ToBoolean();
  // Filled on the stream thread; nobody else can see it, so nobody can detach it, before the promise resolves.
  Napi::ArrayBuffer buffer = new_array_buffer(env, read_bytes(converts));
  auto kept = std::make_shared<Napi::Reference<Napi::ArrayBuffer>>(Napi::Persistent(buffer));
  auto counted = HostMemory::of_process().count(buffer.Data(), buffer.ByteLength());
  return owner.promise(env, read_into(buffer.Data(), converts), reads(),
                       [kept, counted](Napi::Env) { return kept->Value(); });
}

Napi::Value TensorObject::read_sync(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  DeviceObject& owner = device(env);
  const bool converts = info[0].ToBoolean();
  Napi::ArrayBuffer buffer = new_array_buffer(env, read_bytes(converts));
  owner.run_and_wait(env, read_into(buffer.Data(), converts), reads());
  return buffer;
}

Napi::Value TensorObject::read_into_array(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  DeviceObject& owner = device(env);
  const bool converts = info[1].ToBoolean();
  const size_t bytes = read_bytes(converts);
  void* const target = bytes_of_array(info[0], bytes);
  if (target == nullptr) throw_target(env);
  auto kept = std::make_shared<Napi::ObjectReference>(Napi::Persistent(info[0].As<Napi::Object>()));
  // Shared memory can neither be detached nor move, so the stream may write to it.
  if (bytes == 0 || info[2].ToBoolean()) {
    return owner.promise(env, read_into(target, converts), reads(),
                         [kept](Napi::Env env) { return Napi::Boolean::New(env, true); });
  }
  std::shared_ptr<void> staging = owner.staging(env, bytes);
  const auto copy = [kept, staging, bytes](Napi::Env env) {
    void* const target = bytes_of_array(kept->Value(), bytes);
    if (target != nullptr) std::memcpy(target, staging.get(), bytes);
    return Napi::Boolean::New(env, target != nullptr);
  };
  return owner.promise(env, read_into(staging.get(), converts), reads(), copy);
}

void TensorObject::read_into_array_sync(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  DeviceObject& owner = device(env);
  const bool converts = info[1].ToBoolean();
  void* const target = bytes_of_array(info[0], read_bytes(converts));
  if (target == nullptr) throw_target(env);
  owner.run_and_wait(env, read_into(target, converts), reads());
}

Napi::Value TensorObject::wait(const Napi::CallbackInfo& info) {
  DeviceObject& owner = device(info.Env());
  return owner.wait(info.Env(), reads());
}

void TensorObject::wait_sync(const Napi::CallbackInfo& info) {
  DeviceObject& owner = device(info.Env());
  owner.wait_sync(info.Env(), reads());
}

Napi::Value TensorObject::peek(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  DeviceObject& owner = device(env);
  if (!owner.backend(env)->host_addressable() || !owner.stream(env).idle()) return env.Undefined();
  if (storage_->failure_in(part()) != nullptr) return env.Undefined();
  const bool converts = info[0].ToBoolean();
  const TensorView source = view();
  Napi::ArrayBuffer buffer = new_array_buffer(env, read_bytes(converts));
  if (source.size() == 0) return buffer;
  if (converts) {
    halves_to_f32(source.dtype, source.data, source.size(), static_cast<float*>(buffer.Data()));
  } else {
    std::memcpy(buffer.Data(), source.data, static_cast<size_t>(source.bytes()));
  }
  return buffer;
}

}  // namespace moe::binding
