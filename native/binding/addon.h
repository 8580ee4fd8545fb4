// What the addon keeps for one JavaScript environment (the main thread or a worker).
#pragma once

#include "binding/abort_reasons.h"
#include "binding/napi_setup.h"

namespace moe::binding {

struct Addon {
  Napi::FunctionReference error_class;
  Napi::FunctionReference variables;     // see variables_of()
  Napi::FunctionReference array_buffer;  // JavaScript's own class
  Napi::FunctionReference device, tensor, packed_experts, layer, captured_forward, offload_budget, cancellation;
  AbortReasons abort_reasons;

  static Addon& of(Napi::Env env) { return *env.GetInstanceData<Addon>(); }
};

}  // namespace moe::binding
