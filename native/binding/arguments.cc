#include "binding/arguments.h"

namespace moe::binding {

TensorView tensor(Napi::Env env, Napi::Value value, Keep& keep) {
  TensorObject* object = unwrap<TensorObject>(value);
  if (object == nullptr) throw_error(env, {Code::internal, "native argument: expected a tensor handle"});
  if (object->storage() == nullptr) throw_error(env, {Code::disposed, "tensor: used after dispose()"});
  keep.push_back(object->storage());
  return object->view();
}

TensorView optional_tensor(Napi::Env env, Napi::Value value, Keep& keep) {
  if (value.IsNull() || value.IsUndefined()) return {};
  return tensor(env, value, keep);
}

int64_t integer(Napi::Env env, Napi::Value value, const char* name) {
  if (!value.IsNumber()) throw_error(env, {Code::invalid_argument, std::string(name) + ": expected an integer"});
  return value.As<Napi::Number>().Int64Value();
}

std::vector<int64_t> shape(Napi::Env env, Napi::Value value) {
  if (!value.IsArray() || value.As<Napi::Array>().Length() > kMaxRank) {
    throw_error(env, {Code::invalid_argument, "shape: expected at most four sizes"});
  }
  const Napi::Array sizes = value.As<Napi::Array>();
  std::vector<int64_t> result;
  for (uint32_t i = 0; i < sizes.Length(); ++i) {
    const Napi::Value size = sizes[i];
    result.push_back(integer(env, size, "shape"));
    if (result.back() < 0) throw_error(env, {Code::invalid_argument, "shape: expected sizes of at least 0"});
  }
  return result;
}

DType dtype(Napi::Env env, Napi::Value value) {
  const std::string name = value.ToString();
  for (int i = 0; i < kDTypeCount; ++i) {
    if (name == kDTypes[i].name) return static_cast<DType>(i);
  }
  throw_error(env, {Code::unsupported_dtype, "dtype: expected f32, f16, bf16, i32 or u8 on this device, got " + name});
}

Activation activation(Napi::Env env, Napi::Value value) {
  return static_cast<Activation>(name_index(env, value, kActivationNames));
}

GatingRule gating_rule(Napi::Env env, Napi::Object value) {
  GatingRule rule;
  rule.top_k = static_cast<int32_t>(integer(env, value.Get("topK"), "topK"));
  rule.scoring = static_cast<Scoring>(name_index(env, value.Get("scoring"), kScoringNames));
  rule.normalize = value.Get("normalize").ToBoolean();
  rule.scale = value.Get("scale").ToNumber().FloatValue();
  return rule;
}

}  // namespace moe::binding
