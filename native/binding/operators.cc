#include "binding/operators.h"

#include "core/enum.h"
#include "core/operators/list.h"

namespace moe::binding {
namespace {

// Builds { name: kind } from a description's fields, in order. The kinds are those of lib/core/operators/field.ts.
template <class T>
class FieldList {
 public:
  explicit FieldList(Napi::Env env) : env_(env), fields_(Napi::Object::New(env)) { T::fields(*this); }

  void input(const char* name, TensorView T::*, const TensorPattern&) { add(name, "input"); }
  void optional_input(const char* name, TensorView T::*, const TensorPattern&) { add(name, "optional_input"); }
  void output(const char* name, TensorView T::*, const TensorPattern&) { add(name, "output"); }
  void optional_output(const char* name, TensorView T::*, const TensorPattern&) { add(name, "optional_output"); }
  void updated(const char* name, TensorView T::*, const TensorPattern&) { add(name, "updated"); }
  template <class Value>
  void value(const char* name, Value T::*) {
    Napi::Object field = add(name, value_kind<Value>());
    if constexpr (std::is_enum_v<Value>) {
      Napi::Array choices = Napi::Array::New(env_);
      for_each_value<Value>([&](Value, std::string_view choice) {
        choices.Set(choices.Length(), Napi::String::New(env_, choice.data(), choice.size()));
      });
      field.Set("choices", choices);
    } else if constexpr (Description<Value>) {
      field.Set("fields", FieldList<Value>(env_).fields());
    }
  }
  Napi::Object fields() const { return fields_; }

 private:
  Napi::Object add(const char* name, const char* kind) {
    Napi::Object field = Napi::Object::New(env_);
    field.Set("kind", kind);
    fields_.Set(name, field);
    return field;
  }

  Napi::Env env_;
  Napi::Object fields_;
};

}  // namespace

Napi::Value operators(const Napi::CallbackInfo& info) {
  Napi::Object result = Napi::Object::New(info.Env());
  for_each_operator([&]<class Operator>() { result.Set(Operator::kName, FieldList<Operator>(info.Env()).fields()); });
  return result;
}

}  // namespace moe::binding
