// Reads the arguments of binding functions. TypeScript has checked them for users; the checks here only keep a wrong
// call from crashing the process. Reading an object or a list may run JavaScript, which may free what the call is
// about: so it is asked for afterwards, or held.
#pragma once

#include <optional>
#include <string>

#include "binding/device.h"
#include "binding/errors.h"
#include "binding/tensor.h"
#include "core/enum.h"
#include "core/formats/weight_view.h"

namespace moe::binding {

// A tensor's view; `uses` notes what is done with it.
enum class Access { reads, writes, updates };
TensorView tensor(Napi::Env env, const TensorObject& object, Uses& uses, Access access = Access::reads);
TensorView tensor(Napi::Env env, Napi::Value value, Uses& uses, Access access = Access::reads);
// Like tensor(), but null and undefined give an absent view.
TensorView optional_tensor(Napi::Env env, Napi::Value value, Uses& uses, Access access = Access::reads);

// A StridedMatrix of lib/core/tensors/tensor_handle.ts, checked to lie within its tensor.
MatrixView matrix(Napi::Env env, Napi::Value value, Uses& uses);
MatrixView optional_matrix(Napi::Env env, Napi::Value value, Uses& uses);

// A weight of lib/core/device/backend.ts.
WeightView weight(Napi::Env env, Napi::Value value, Uses& uses);
WeightView optional_weight(Napi::Env env, Napi::Value value, Uses& uses);
const WeightFormat* weight_format(Napi::Env env, Napi::Value value);

// The integer that a number is, if it is one.
std::optional<int64_t> find_integer(Napi::Value value);
// Like find_integer(), but throws if there is none.
int64_t integer(Napi::Env env, Napi::Value value, const char* name);
// A bigint that is an address other than null.
void* address(Napi::Env env, Napi::Value value, const char* name);
std::vector<int64_t> shape(Napi::Env env, Napi::Value value);

// The names of an object's own properties.
Napi::Array own_names(Napi::Object object);

// A value as messages show it: primitives by value, everything else by kind.
std::string text_of(Napi::Value value);

// The enum value that a string names, if any.
template <class Enum>
std::optional<Enum> find_choice(Napi::Value value) {
  // Longer text is cut off and then matches no name.
  char text[64];
  static_assert(longest_name<Enum>() + 1 < sizeof text);
  size_t length = 0;
  if (napi_get_value_string_utf8(value.Env(), value, text, sizeof text, &length) != napi_ok) return std::nullopt;
  return value_of<Enum>({text, length});
}

// Like find_choice(), but throws if there is none. Messages call the value `parameter`.
template <class Enum>
Enum choice(Napi::Env env, Napi::Value value, const std::string& parameter) {
  if (const std::optional<Enum> chosen = find_choice<Enum>(value)) return *chosen;
  const std::string names(enum_names(Enum{}));
  throw_error(env, {Code::invalid_argument, parameter + ": expected one of " + names + ", got " + text_of(value)});
}

DType dtype(Napi::Env env, Napi::Value value);

}  // namespace moe::binding
