// Reading the arguments of binding functions. The TypeScript layer has checked them for users; what is checked here
// keeps a wrong call from crashing the process.
#pragma once

#include "binding/device.h"
#include "binding/errors.h"
#include "binding/tensor.h"
#include "core/layer/description.h"
#include "core/operators/problem.h"

namespace moe::binding {

// The C++ object behind a JavaScript object of class T, or null where the value is none.
template <class T>
T* unwrap(Napi::Value value) {
  if (!value.IsObject() || !value.As<Napi::Object>().CheckTypeTag(&T::kTag)) return nullptr;
  return T::Unwrap(value.As<Napi::Object>());
}

template <class T>
T& argument(const Napi::CallbackInfo& info, size_t index) {
  T* object = unwrap<T>(info[index]);
  if (object == nullptr) {
    throw_error(info.Env(), {Code::internal, "native argument " + std::to_string(index) + ": wrong kind of object"});
  }
  return *object;
}

// A tensor's view; its memory is added to `keep`.
TensorView tensor(Napi::Env env, Napi::Value value, Keep& keep);
// As tensor(), but null and undefined give an absent view.
TensorView optional_tensor(Napi::Env env, Napi::Value value, Keep& keep);

// A StridedMatrix of lib/core/backend.ts, checked to lie within its tensor.
MatrixView matrix(Napi::Env env, Napi::Value value, Keep& keep);
MatrixView optional_matrix(Napi::Env env, Napi::Value value, Keep& keep);

// A weight of lib/core/backend.ts.
WeightView weight(Napi::Env env, Napi::Value value, Keep& keep);
WeightView optional_weight(Napi::Env env, Napi::Value value, Keep& keep);
const WeightFormat* weight_format(Napi::Env env, Napi::Value value);

int64_t integer(Napi::Env env, Napi::Value value, const char* name);
std::vector<int64_t> shape(Napi::Env env, Napi::Value value);

// The index of a string in a table of names.
template <size_t count>
int name_index(Napi::Env env, Napi::Value value, const char* const (&names)[count]) {
  const std::string name = value.ToString();
  for (size_t i = 0; i < count; ++i) {
    if (name == names[i]) return static_cast<int>(i);
  }
  throw_error(env, {Code::invalid_argument, "unknown name \"" + name + "\""});
}

DType dtype(Napi::Env env, Napi::Value value);
Activation activation(Napi::Env env, Napi::Value value);
Clamp clamp(Napi::Object value);
GatingRule gating_rule(Napi::Env env, Napi::Object value);

}  // namespace moe::binding
