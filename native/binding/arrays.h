// Memory of JavaScript's arrays.
#pragma once

#include <cstddef>

#include "binding/napi_setup.h"

namespace moe::binding {

// Throws OUT_OF_MEMORY.
Napi::ArrayBuffer new_array_buffer(Napi::Env env, size_t bytes);

// The memory of a Uint8Array of so many bytes; null for any other, such as one whose buffer was transferred.
void* bytes_of_array(Napi::Env env, Napi::Value array, size_t bytes);

}  // namespace moe::binding
