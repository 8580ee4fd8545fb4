// Memory of JavaScript's arrays.
#pragma once

#include <cstddef>
#include <optional>

#include "binding/napi_setup.h"

namespace moe::binding {

// Throws OUT_OF_MEMORY.
Napi::ArrayBuffer new_array_buffer(Napi::Env env, size_t bytes);

// The memory of a typed array, asked of the array itself: the buffer of shared memory is not an ArrayBuffer.
struct ArrayMemory {
  napi_typedarray_type type;
  size_t length;  // elements
  size_t bytes;
  void* data;  // may be null if there are no bytes
};
// Nothing if the value is no typed array.
std::optional<ArrayMemory> array_memory(Napi::Value value);

// The memory of a Uint8Array of `bytes` bytes; null for any other, such as one whose buffer was transferred.
void* bytes_of_array(Napi::Value array, size_t bytes);

}  // namespace moe::binding
