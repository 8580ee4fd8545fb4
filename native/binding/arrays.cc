#include "binding/arrays.h"

#include <string>

#include "binding/addon.h"
#include "binding/errors.h"
#include "core/host_memory.h"

namespace moe::binding {

// Calls JavaScript's constructor, which throws if there is no memory. napi_create_arraybuffer ends the process.
Napi::ArrayBuffer new_array_buffer(Napi::Env env, size_t bytes) {
  check(env, HostMemory::of_process().check(bytes));
  try {
    return Addon::of(env)
        .array_buffer.New({Napi::Number::New(env, static_cast<double>(bytes))})
        .As<Napi::ArrayBuffer>();
  } catch (const Napi::Error&) {
    throw_error(env, {Code::out_of_memory, "data: JavaScript has no memory for an array of " + std::to_string(bytes) +
                                               " bytes; read the tensor in parts, with rows()"});
  }
}

std::optional<ArrayMemory> array_memory(Napi::Value value) {
  ArrayMemory memory{};
  if (!value.IsTypedArray() || napi_get_typedarray_info(value.Env(), value, &memory.type, &memory.length, &memory.data,
                                                        nullptr, nullptr) != napi_ok) {
    return std::nullopt;
  }
  memory.bytes = memory.length * value.As<Napi::TypedArray>().ElementSize();
  return memory;
}

void* bytes_of_array(Napi::Value array, size_t bytes) {
  static char none;
  const std::optional<ArrayMemory> memory = array_memory(array);
  if (!memory || memory->type != napi_uint8_array || memory->bytes != bytes) return nullptr;
  return bytes == 0 ? &none : memory->data;
}

}  // namespace moe::binding
