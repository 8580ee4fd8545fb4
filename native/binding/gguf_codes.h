// Exports core/formats/gguf_codes.h.
#pragma once

#include "binding/napi_setup.h"

namespace moe::binding {

// (type, count of blocks, blocks, codes) -> a promise; the arrays are Uint8Arrays, which are not to be transferred
// before it is settled. A thread of libuv's pool does the work.
Napi::Value convert_gguf_codes(const Napi::CallbackInfo& info);

}  // namespace moe::binding
