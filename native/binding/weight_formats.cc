#include "binding/weight_formats.h"

#include <string>

#include "core/formats/find_format.h"

namespace moe::binding {

namespace {

const char* name_of(CodeType code) {
  switch (code) {
    case CodeType::f32: return "f32";
    case CodeType::f16: return "f16";
    case CodeType::bf16: return "bf16";
    case CodeType::e4m3: return "e4m3";
    case CodeType::signed_integer: return "signed_integer";
    case CodeType::unsigned_integer: return "unsigned_integer";
    case CodeType::table: return "table";
  }
  return "";
}

const char* name_of(ScaleType type) {
  switch (type) {
    case ScaleType::f32: return "f32";
    case ScaleType::f16: return "f16";
    case ScaleType::bf16: return "bf16";
    case ScaleType::e4m3: return "e4m3";
    case ScaleType::e8m0: return "e8m0";
    case ScaleType::u4: return "u4";
    case ScaleType::u6: return "u6";
    case ScaleType::i8: return "i8";
  }
  return "";
}

void set_level(Napi::Object format, const char* role, const ScaleLevel& level) {
  if (level.absent()) return;
  Napi::Object result = Napi::Object::New(format.Env());
  result.Set("type", name_of(level.type));
  result.Set("rows", level.rows);
  result.Set("columns", level.columns);
  format.Set(role, result);
}

}  // namespace

Napi::Value weight_format_by_name(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const WeightFormat* format = find_format(info[0].ToString());
  if (format == nullptr) return env.Null();
  Napi::Object result = Napi::Object::New(env);
  result.Set("name", format->name);
  result.Set("code", name_of(format->code));
  result.Set("bits", format->bits);
  if (format->code == CodeType::table) {
    Napi::Array table = Napi::Array::New(env, 16);
    for (uint32_t i = 0; i < 16; ++i) table.Set(i, format->table[i]);
    result.Set("table", table);
  }
  set_level(result, "scales", format->scales);
  set_level(result, "superScales", format->super_scales);
  if (format->offset != Offset::none)
    result.Set("offset", format->offset == Offset::zero_point ? "zero_point" : "minimum");
  return result;
}

}  // namespace moe::binding
