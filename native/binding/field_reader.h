// Reads a description of core/operators from a JavaScript object that has its fields under the same names.
#pragma once

#include <cmath>
#include <limits>
#include <string>
#include <type_traits>

#include "binding/arguments.h"
#include "binding/packed_experts.h"
#include "core/enum.h"
#include "core/operators/fields.h"

namespace moe::binding {

// Where a value is found, for messages: "gating.rule.topK".
struct Place {
  const Place* outer;
  const char* name;

  std::string text() const { return outer == nullptr ? name : outer->text() + "." + name; }
};

template <class T>
class FieldReader {
 public:
  // The memory of tensors is added to `keep`.
  FieldReader(Napi::Value value, const Place& place, T& target, Keep& keep)
      : env_(value.Env()), place_(place), target_(target), keep_(keep) {
    if (!value.IsObject()) fail(place, "an object", value);
    object_ = value.As<Napi::Object>();
    T::fields(*this);
  }

  void input(const char* name, TensorView T::*member) {
    const Napi::Value value = object_.Get(name);
    if (unwrap<TensorObject>(value) == nullptr) fail(place(name), "a tensor", value);
    target_.*member = tensor(env_, value, keep_);
  }
  void optional_input(const char* name, TensorView T::*member) {
    const Napi::Value value = object_.Get(name);
    if (!value.IsNull() && !value.IsUndefined()) input(name, member);
  }
  void output(const char* name, TensorView T::*member) { input(name, member); }
  void optional_output(const char* name, TensorView T::*member) { optional_input(name, member); }

  template <class Value>
  void value(const char* name, Value T::*member) {
    const Napi::Value value = object_.Get(name);
    Value& target = target_.*member;
    if constexpr (std::is_same_v<Value, bool>) {
      if (!value.IsBoolean()) fail(place(name), "a boolean", value);
      target = value.As<Napi::Boolean>();
    } else if constexpr (std::is_enum_v<Value>) {
      const std::optional<Value> chosen = find_choice<Value>(value);
      if (!chosen) fail(place(name), "one of " + std::string(enum_names(Value{})), value);
      target = *chosen;
    } else if constexpr (std::is_same_v<Value, uint64_t>) {
      bool lossless = false;
      if (value.IsBigInt()) target = value.As<Napi::BigInt>().Uint64Value(&lossless);
      if (!lossless) fail(place(name), "a bigint from 0 to 2^64 - 1", value);
    } else if constexpr (std::is_integral_v<Value>) {
      const double number = value.IsNumber() ? value.As<Napi::Number>().DoubleValue() : NAN;
      // Integers beyond 2^53 are no longer told apart.
      constexpr double kLargest = sizeof(Value) < 8 ? static_cast<double>(std::numeric_limits<Value>::max()) : 0x1p53;
      if (!(std::trunc(number) == number && std::abs(number) <= kLargest)) fail(place(name), "an integer", value);
      target = static_cast<Value>(number);
    } else if constexpr (std::is_floating_point_v<Value>) {
      if (!value.IsNumber()) fail(place(name), "a number", value);
      target = static_cast<Value>(value.As<Napi::Number>().DoubleValue());
    } else if constexpr (std::is_same_v<Value, MatrixView>) {
      if (!value.IsObject()) fail(place(name), "a matrix", value);
      target = matrix(env_, value, keep_);
    } else if constexpr (std::is_same_v<Value, const PackedExperts*>) {
      const PackedExpertsObject* object = unwrap<PackedExpertsObject>(value);
      if (object == nullptr) fail(place(name), "packed experts", value);
      keep_.push_back(object->packed(env_));
      target = object->packed(env_).get();
    } else {
      FieldReader<Value>(value, place(name), target, keep_);
    }
  }

 private:
  Place place(const char* name) const { return {&place_, name}; }
  [[noreturn]] void fail(const Place& place, const std::string& expected, Napi::Value value) const {
    throw_error(env_, {Code::invalid_argument, place.text() + ": expected " + expected + ", got " + text_of(value)});
  }

  Napi::Env env_;
  const Place& place_;
  Napi::Object object_;
  T& target_;
  Keep& keep_;
};

// A description without tensors; `name` is what it is called in messages.
template <class T>
T read_fields(Napi::Value value, const char* name) {
  static_assert(kNamesAllMembers<T>);
  T description;
  Keep keep;
  FieldReader<T>(value, {nullptr, name}, description, keep);
  return description;
}

// An operator's description, checked.
template <class Operator>
Operator read_operator(Napi::Value value, Keep& keep) {
  static_assert(kNamesAllMembers<Operator>);
  Operator problem;
  FieldReader<Operator>(value, {nullptr, Operator::kName}, problem, keep);
  if constexpr (requires { problem.check(); }) check(value.Env(), problem.check());
  return problem;
}

}  // namespace moe::binding
