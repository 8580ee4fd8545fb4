#include "binding/variables.h"

#include "binding/addon.h"
#include "binding/arguments.h"

namespace moe::binding {

Variables variables_of(Napi::Env env) {
  const Napi::FunctionReference& variables_of_thread = Addon::of(env).variables;
  // The install script asks an addon that it has built for its devices, and initializes nothing.
  if (variables_of_thread.IsEmpty()) return {};
  const Napi::Object given = variables_of_thread.Call({}).As<Napi::Object>();
  const Napi::Array names = own_names(given);
  Variables variables;
  for (uint32_t i = 0; i < names.Length(); ++i) {
    const std::string name = names.Get(i).ToString();
    variables.values.emplace(name, given.Get(name).ToString());
  }
  return variables;
}

}  // namespace moe::binding
