// Where JavaScript calls C++. All callbacks of Node-API are defined through this file: it turns exceptions into
// JavaScript errors with a code. A C++ exception that left the addon would end the process.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
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

// What JavaScript's objects of a class are known by: the package and, as a hash (FNV-1a), the name of the class.
constexpr napi_type_tag tag_of(std::string_view class_name) {
  uint64_t hash = 0xcbf29ce484222325u;
  for (const char c : class_name) hash = (hash ^ static_cast<uint8_t>(c)) * 0x100000001b3u;
  return {0x6d6f652d6b65726eu, hash};
}
template <class T>
inline constexpr napi_type_tag kTag = tag_of(T::kClass);

// The C++ object behind a JavaScript object of class T, or null if the value is not one.
template <class T>
T* unwrap(Napi::Value value) {
  if (!value.IsObject() || !value.As<Napi::Object>().CheckTypeTag(&kTag<T>)) return nullptr;
  return T::Unwrap(value.As<Napi::Object>());
}

// Napi::ObjectWrap whose callbacks go through the boundary: it replaces the functions of the same names. T has the name
// of its class in JavaScript, kClass.
template <class T>
class Object : public Napi::ObjectWrap<T> {
 public:
  explicit Object(const Napi::CallbackInfo& info) : Napi::ObjectWrap<T>(info) {
    info.This().template As<Napi::Object>().TypeTag(&kTag<T>);
  }

 protected:
  using PropertyDescriptor = napi_property_descriptor;

  template <auto method>
  static PropertyDescriptor InstanceMethod(const char* name) {
    return {name, nullptr, &Object::call<method>, nullptr, nullptr, nullptr, napi_default, nullptr};
  }
  template <auto getter>
  static PropertyDescriptor InstanceAccessor(const char* name) {
    return {name, nullptr, nullptr, &Object::get<getter>, nullptr, nullptr, napi_default, nullptr};
  }
  static Napi::Function DefineClass(Napi::Env env, const std::vector<PropertyDescriptor>& members) {
    napi_value made = nullptr;
    if (napi_define_class(env, T::kClass, NAPI_AUTO_LENGTH, &Object::construct, nullptr, members.size(), members.data(),
                          &made) != napi_ok) {
      throw Napi::Error::New(env);
    }
    return Napi::Function(env, made);
  }

 private:
  template <auto method>
  static napi_value call(napi_env env, napi_callback_info given) noexcept {
    return answer(env, given, [](const Napi::CallbackInfo& info) {
      return (T::Unwrap(info.This().template As<Napi::Object>())->*method)(info);
    });
  }
  // V8 checks whose methods are called, but not whose accessors.
  template <auto getter>
  static napi_value get(napi_env env, napi_callback_info given) noexcept {
    return answer(env, given, [](const Napi::CallbackInfo& info) {
      T* const object = unwrap<T>(info.This());
      if (object == nullptr) throw Napi::TypeError::New(info.Env(), std::string("this: expected a ") + T::kClass);
      return (object->*getter)(info);
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
