#include "binding/arguments.h"

#include <cmath>

#include "core/formats/find_format.h"

namespace moe::binding {

TensorView tensor(Napi::Env env, const TensorObject& object, Uses& uses, Access access) {
  if (object.storage() == nullptr) throw_error(env, {Code::disposed, "tensor: used after dispose()"});
  switch (access) {
    case Access::reads: uses.reads(object.storage(), object.part()); break;
    case Access::writes: uses.writes(object.storage(), object.part()); break;
    case Access::updates: uses.updates(object.storage(), object.part()); break;
  }
  return object.view();
}

TensorView tensor(Napi::Env env, Napi::Value value, Uses& uses, Access access) {
  const TensorObject* object = unwrap<TensorObject>(value);
  if (object == nullptr) throw_error(env, {Code::internal, "native argument: expected a tensor handle"});
  return tensor(env, *object, uses, access);
}

TensorView optional_tensor(Napi::Env env, Napi::Value value, Uses& uses, Access access) {
  if (value.IsNull() || value.IsUndefined()) return {};
  return tensor(env, value, uses, access);
}

std::optional<int64_t> find_integer(Napi::Value value) {
  double number = NAN;
  napi_get_value_double(value.Env(), value, &number);
  // Beyond 2^53 a double cannot tell neighbouring integers apart.
  if (!(std::trunc(number) == number && std::abs(number) <= 0x1p53)) return std::nullopt;
  return static_cast<int64_t>(number);
}

int64_t integer(Napi::Env env, Napi::Value value, const char* name) {
  if (const std::optional<int64_t> number = find_integer(value)) return *number;
  throw_error(env, {Code::invalid_argument, std::string(name) + ": expected an integer, got " + text_of(value)});
}

std::string text_of(Napi::Value value) {
  switch (value.Type()) {
    case napi_undefined: return "undefined";
    case napi_null: return "null";
    case napi_boolean: return value.As<Napi::Boolean>() ? "true" : "false";
    case napi_number: return value.ToString();
    case napi_string: return '"' + value.As<Napi::String>().Utf8Value() + '"';
    case napi_bigint: return value.ToString().Utf8Value() + "n";
    case napi_function: return "a function";
    case napi_object: return value.IsArray() ? "an array" : "an object";
    default: return "a value of another kind";
  }
}

void* address(Napi::Env env, Napi::Value value, const char* name) {
  uint64_t bits = 0;
  bool exact = false;
  if (napi_get_value_bigint_uint64(env, value, &bits, &exact) != napi_ok || !exact || bits == 0) {
    throw_error(env, {Code::invalid_argument, std::string(name) + ": expected a bigint from 1 to 2^64 - 1"});
  }
  return reinterpret_cast<void*>(static_cast<uintptr_t>(bits));
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

// GetPropertyNames() would include what a program added to Object.prototype.
Napi::Array own_names(Napi::Object object) {
  napi_value names = nullptr;
  const auto filter = static_cast<napi_key_filter>(napi_key_enumerable | napi_key_skip_symbols);
  if (napi_get_all_property_names(object.Env(), object, napi_key_own_only, filter, napi_key_numbers_to_strings,
                                  &names) != napi_ok) {
    throw Napi::Error::New(object.Env());
  }
  return {object.Env(), names};
}

DType dtype(Napi::Env env, Napi::Value value) {
  const std::string name = value.ToString();
  for (int i = 0; i < kDTypeCount; ++i) {
    if (name == kDTypes[i].name) return static_cast<DType>(i);
  }
  throw_error(env, {Code::unsupported_dtype, "dtype: expected f32, f16, bf16, i32 or u8 on this device, got " + name});
}

MatrixView matrix(Napi::Env env, Napi::Value value, Uses& uses) {
  if (!value.IsObject()) throw_error(env, {Code::internal, "native argument: expected a matrix"});
  const Napi::Object given = value.As<Napi::Object>();
  const TensorView memory = tensor(env, given.Get("handle"), uses);
  MatrixView view;
  view.data = memory.data;
  view.dtype = memory.dtype;
  view.rows = integer(env, given.Get("rows"), "rows");
  view.columns = integer(env, given.Get("columns"), "columns");
  view.row_stride = integer(env, given.Get("rowStride"), "rowStride");
  view.column_stride = integer(env, given.Get("columnStride"), "columnStride");
  // As doubles, since the products may overflow.
  const double last = static_cast<double>(view.rows - 1) * static_cast<double>(view.row_stride) +
                      static_cast<double>(view.columns - 1) * static_cast<double>(view.column_stride);
  const bool in_memory = view.rows > 0 && view.columns > 0 && view.row_stride >= 0 && view.column_stride >= 0 &&
                         last < static_cast<double>(memory.size());
  if (!in_memory) throw_error(env, {Code::internal, "native argument: a matrix reaches beyond its tensor"});
  return view;
}

MatrixView optional_matrix(Napi::Env env, Napi::Value value, Uses& uses) {
  if (value.IsNull() || value.IsUndefined()) return {};
  return matrix(env, value, uses);
}

const WeightFormat* weight_format(Napi::Env env, Napi::Value value) {
  const std::string name = value.ToString();
  if (const WeightFormat* format = find_format(name)) return format;
  const char* only = name == "f64" ? " (reference only)" : "";
  throw_error(env,
              {Code::unsupported_dtype, "dtype: expected a format that this device has, got \"" + name + "\"" + only});
}

WeightView weight(Napi::Env env, Napi::Value value, Uses& uses) {
  if (!value.IsObject()) throw_error(env, {Code::internal, "native argument: expected a weight"});
  const Napi::Object given = value.As<Napi::Object>();
  WeightView view;
  view.format = weight_format(env, given.Get("format"));
  view.rows = integer(env, given.Get("rows"), "rows");
  view.columns = integer(env, given.Get("columns"), "columns");
  view.codes = matrix(env, given.Get("codes"), uses);
  view.scales = optional_matrix(env, given.Get("scales"), uses);
  view.super_scales = optional_matrix(env, given.Get("superScales"), uses);
  view.zeros = optional_matrix(env, given.Get("zeros"), uses);
  view.super_zeros = optional_matrix(env, given.Get("superZeros"), uses);
  if (given.Get("scalar").IsNumber()) view.scalar = given.Get("scalar").ToNumber().FloatValue();
  const TensorView input_scale = optional_tensor(env, given.Get("inputScale"), uses);
  const TensorView input_order = optional_tensor(env, given.Get("inputOrder"), uses);
  const auto per_column = [&view](const TensorView& tensor, DType dtype) {
    return tensor.absent() || (tensor.dtype == dtype && tensor.size() == view.columns);
  };
  if (!per_column(input_scale, DType::f32) || !per_column(input_order, DType::i32)) {
    throw_error(env, {Code::internal, "native argument: an input scale or order does not fit its weight"});
  }
  view.input_scale = input_scale.as<const float>();
  view.input_order = input_order.as<const int32_t>();
  if (fits_weight(view)) return view;
  const std::string format = view.format->name;
  throw_error(env, {Code::internal, "native argument: codes and scales do not fit a weight of " + format});
}

WeightView optional_weight(Napi::Env env, Napi::Value value, Uses& uses) {
  if (value.IsNull() || value.IsUndefined()) return {};
  return weight(env, value, uses);
}

}  // namespace moe::binding
