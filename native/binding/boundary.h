// Where JavaScript calls C++. All callbacks of Node-API are defined through this file: it turns exceptions into
// JavaScript errors with a code. A C++ exception that left the addon would end the process.
#pragma once

#include <initializer_list>
#include <vector>

#include "binding/napi_setup.h"

namespace moe::binding {

// Throws the exception being handled in JavaScript.
void throw_caught(napi_env env) noexcept;

// Runs the body of a callback.
template <class Body>
napi_value at_boundary(napi_env env, Body&& body) noexcept {
  try {
    return body();
  } catch (...) {
    throw_caught(env);
    return nullptr;
  }
}

// Runs a callback as call(info), which returns a value or nothing.
template <class Call>
napi_value answer(napi_env env, napi_callback_info given, Call&& call) noexcept {
  return at_boundary(env, [&]() -> napi_value {
    const Napi::CallbackInfo info(env, given);
    if constexpr (std::is_void_v<decltype(call(info))>) {
      call(info);
      return nullptr;
    } else {
      return call(info);
    }
  });
}

// A JavaScript function that calls `run(info)`.
template <auto run>
Napi::Function function(Napi::Env env, const char* name) {
  napi_value made = nullptr;
  const napi_callback callback = [](napi_env e, napi_callback_info given) noexcept {
    return answer(e, given, [](const Napi::CallbackInfo& info) { return run(info); });
  };
  if (napi_create_function(env, name, NAPI_AUTO_LENGTH, callback, nullptr, &made) != napi_ok) {
    throw Napi::Error::New(env);
  }
  return Napi::Function(env, made);
}

// Napi::ObjectWrap whose callbacks go through the boundary: it replaces the functions of the same names.
template <class T>
class Object : public Napi::ObjectWrap<T> {
 public:
  explicit Object(const Napi::CallbackInfo& info) : Napi::ObjectWrap<T>(info) {}

 protected:
  using PropertyDescriptor = napi_property_descriptor;

  template <auto method>
  static PropertyDescriptor InstanceMethod(const char* name) {
    return {name, nullptr, &Object::call<method>, nullptr, nullptr, nullptr, napi_default, nullptr};
  }
  template <auto getter>
  static PropertyDescriptor InstanceAccessor(const char* name) {
    return {name, nullptr, nullptr, &Object::call<getter>, nullptr, nullptr, napi_default, nullptr};
  }
  static Napi::Function DefineClass(Napi::Env env, const char* name, const std::vector<PropertyDescriptor>& members) {
    napi_value made = nullptr;
    if (napi_define_class(env, name, NAPI_AUTO_LENGTH, &Object::construct, nullptr, members.size(), members.data(),
                          &made) != napi_ok) {
      throw Napi::Error::New(env);
    }
    return Napi::Function(env, made);
  }

 private:
  template <auto member>
  static napi_value call(napi_env env, napi_callback_info given) noexcept {
    return answer(env, given, [](const Napi::CallbackInfo& info) {
      return (T::Unwrap(info.This().template As<Napi::Object>())->*member)(info);
    });
  }
  static napi_value construct(napi_env env, napi_callback_info given) noexcept {
    return answer(env, given, [](const Napi::CallbackInfo& info) {
      if (!info.IsConstructCall()) throw Napi::TypeError::New(info.Env(), "a native class was called without new");
      // Its constructor hands it over to the JavaScript object.
      new T(info);
      return info.This();
    });
  }
};

}  // namespace moe::binding
