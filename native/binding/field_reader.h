// Reads a description of core/operators from a JavaScript object that has its fields under the same names.
#pragma once

#include <string>
#include <type_traits>
#include <utility>

#include "binding/arguments.h"
#include "binding/packed_experts.h"
#include "core/enum.h"
#include "core/operators/check.h"

namespace moe::binding {

// The path to a value, for messages: "gating.rule.topK".
struct Place {
  const Place* outer;
  const char* name;

  std::string text() const { return outer == nullptr ? name : outer->text() + "." + name; }
};

template <class T>
class FieldReader {
 public:
  // `uses` notes what the operator does with its tensors and packed experts.
  FieldReader(Napi::Value value, const Place& place, T& target, Uses& uses)
      : env_(value.Env()), place_(place), target_(target), uses_(uses) {
    if (!value.IsObject()) fail(place, "an object", value);
    object_ = value.As<Napi::Object>();
    static_assert(kNamesAllMembers<T>);
    T::fields(*this);
  }

  void input(const char* name, TensorView T::*member, const TensorPattern&) { required(name, member, Access::reads); }
  void optional_input(const char* name, TensorView T::*member, const TensorPattern&) {
    optional(name, member, Access::reads);
  }
  void output(const char* name, TensorView T::*member, const TensorPattern&) {
    required(name, member, access_to_outputs());
  }
  void optional_output(const char* name, TensorView T::*member, const TensorPattern&) {
    optional(name, member, access_to_outputs());
  }
  void updated(const char* name, TensorView T::*member, const TensorPattern&) {
    required(name, member, Access::updates);
  }

  template <class Value>
  void value(const char* name, Value T::*member) {
    const Napi::Value value = object_.Get(name);
    Value& target = target_.*member;
    // Node-API's status says whether the value has the type that is read.
    if constexpr (std::is_same_v<Value, bool>) {
      if (napi_get_value_bool(env_, value, &target) != napi_ok) fail(place(name), "a boolean", value);
    } else if constexpr (std::is_enum_v<Value>) {
      const std::optional<Value> chosen = find_choice<Value>(value);
      if (!chosen) fail(place(name), "one of " + std::string(enum_names(Value{})), value);
      target = *chosen;
    } else if constexpr (std::is_same_v<Value, uint64_t>) {
      bool lossless = false;
      const napi_status status = napi_get_value_bigint_uint64(env_, value, &target, &lossless);
      if (status != napi_ok || !lossless) fail(place(name), "a bigint from 0 to 2^64 - 1", value);
    } else if constexpr (std::is_integral_v<Value>) {
      const std::optional<int64_t> number = find_integer(value);
      if (!number || !std::in_range<Value>(*number)) fail(place(name), "an integer", value);
      target = static_cast<Value>(*number);
    } else if constexpr (std::is_floating_point_v<Value>) {
      double number = 0;
      if (napi_get_value_double(env_, value, &number) != napi_ok) fail(place(name), "a number", value);
      target = static_cast<Value>(number);
    } else if constexpr (std::is_same_v<Value, MatrixView>) {
      if (!value.IsObject()) fail(place(name), "a matrix", value);
      target = matrix(env_, value, uses_);
    } else if constexpr (std::is_same_v<Value, WeightView>) {
      if (!value.IsObject()) fail(place(name), "a weight", value);
      target = weight(env_, value, uses_);
    } else if constexpr (std::is_same_v<Value, const WeightFormat*>) {
      if (!value.IsString()) fail(place(name), "the name of a weight format", value);
      target = weight_format(env_, value);
    } else if constexpr (std::is_same_v<Value, const PackedExperts*>) {
      const PackedExpertsObject* object = unwrap<PackedExpertsObject>(value);
      if (object == nullptr) fail(place(name), "packed experts", value);
      target = object->read(env_, uses_);
    } else {
      FieldReader<Value>(value, place(name), target, uses_);
    }
  }

 private:
  Access access_to_outputs() const {
    if constexpr (requires { target_.accumulate; }) return target_.accumulate ? Access::updates : Access::writes;
    return Access::writes;
  }
  void required(const char* name, TensorView T::*member, Access access) {
    read_tensor(name, object_.Get(name), target_.*member, access);
  }
  void optional(const char* name, TensorView T::*member, Access access) {
    const Napi::Value value = object_.Get(name);
    if (!value.IsNull() && !value.IsUndefined()) read_tensor(name, value, target_.*member, access);
  }
  void read_tensor(const char* name, Napi::Value value, TensorView& target, Access access) {
    const TensorObject* object = unwrap<TensorObject>(value);
    if (object == nullptr) fail(place(name), "a tensor", value);
    target = tensor(env_, *object, uses_, access);
  }
  Place place(const char* name) const { return {&place_, name}; }
  [[noreturn]] void fail(const Place& place, const std::string& expected, Napi::Value value) const {
    throw_error(env_, {Code::invalid_argument, place.text() + ": expected " + expected + ", got " + text_of(value)});
  }

  Napi::Env env_;
  const Place& place_;
  Napi::Object object_;
  T& target_;
  Uses& uses_;
};

// Reads a description without tensors. Messages call it `name`.
template <class T>
T read_fields(Napi::Value value, const char* name) {
  T description;
  Uses uses;
  FieldReader<T>(value, {nullptr, name}, description, uses);
  return description;
}

// Reads and checks an operator's description.
template <class Operator>
Operator read_operator(Napi::Value value, Uses& uses) {
  Operator problem;
  FieldReader<Operator>(value, {nullptr, Operator::kName}, problem, uses);
  check(value.Env(), check_description(problem));
  return problem;
}

}  // namespace moe::binding
