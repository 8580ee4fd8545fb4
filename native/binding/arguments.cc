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

MatrixView matrix(Napi::Env env, Napi::Value value, Keep& keep) {
  if (!value.IsObject()) throw_error(env, {Code::internal, "native argument: expected a matrix"});
  const Napi::Object given = value.As<Napi::Object>();
  const TensorView memory = tensor(env, given.Get("handle"), keep);
  MatrixView view;
  view.data = memory.data;
  view.dtype = memory.dtype;
  view.rows = integer(env, given.Get("rows"), "rows");
  view.columns = integer(env, given.Get("columns"), "columns");
  view.row_stride = integer(env, given.Get("rowStride"), "rowStride");
  view.column_stride = integer(env, given.Get("columnStride"), "columnStride");
  const bool in_memory = view.rows > 0 && view.columns > 0 && view.row_stride >= 0 && view.column_stride >= 0 &&
                         (view.rows - 1) * view.row_stride + (view.columns - 1) * view.column_stride < memory.size();
  if (!in_memory) throw_error(env, {Code::internal, "native argument: a matrix reaches beyond its tensor"});
  return view;
}

MatrixView optional_matrix(Napi::Env env, Napi::Value value, Keep& keep) {
  if (value.IsNull() || value.IsUndefined()) return {};
  return matrix(env, value, keep);
}

Clamp clamp(Napi::Object value) {
  const auto number = [&value](const char* name) { return value.Get(name).ToNumber().FloatValue(); };
  return {number("alpha"), number("limit"), number("offset")};
}

GatingRule gating_rule(Napi::Env env, Napi::Object value) {
  GatingRule rule;
  const auto number = [&value](const char* name) { return value.Get(name).ToNumber().FloatValue(); };
  const auto count = [&](const char* name) { return static_cast<int32_t>(integer(env, value.Get(name), name)); };
  rule.top_k = count("topK");
  rule.scoring = static_cast<Scoring>(name_index(env, value.Get("scoring"), kScoringNames));
  rule.selection_key = static_cast<SelectionKey>(name_index(env, value.Get("selectionKey"), kSelectionKeyNames));
  rule.num_groups = count("numGroups");
  rule.top_groups = count("topGroups");
  rule.group_score = static_cast<GroupScore>(name_index(env, value.Get("groupScore"), kGroupScoreNames));
  rule.normalization = static_cast<Normalization>(name_index(env, value.Get("normalization"), kNormalizationNames));
  rule.epsilon = number("epsilon");
  rule.power = number("power");
  rule.scale = number("scale");
  rule.jitter = number("jitter");
  return rule;
}

}  // namespace moe::binding
