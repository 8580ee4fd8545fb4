#include "binding/weight_formats.h"

#include <string_view>

#include "core/formats/find_format.h"
#include "core/formats/grids.h"

namespace moe::binding {

namespace {

template <class Enum>
Napi::String text(Napi::Env env, Enum value) {
  const std::string_view name = name_of(value);
  return Napi::String::New(env, name.data(), name.size());
}

void set_level(Napi::Object format, const char* role, const ScaleLevel& level) {
  if (level.absent()) return;
  Napi::Object result = Napi::Object::New(format.Env());
  result.Set("type", text(format.Env(), level.type));
  result.Set("rows", level.rows);
  result.Set("columns", level.columns);
  format.Set(role, result);
}

Napi::Object grid_of(Napi::Env env, const GridCodes& codes) {
  Napi::Object result = Napi::Object::New(env);
  result.Set("coordinates", codes.coordinates);
  result.Set("numberBits", codes.number_bits);
  result.Set("signBits", codes.sign_bits);
  Napi::Array points = Napi::Array::New(env, codes.points());
  for (uint32_t i = 0; i < codes.points(); ++i) points.Set(i, grid_points(codes.grid)[i]);
  result.Set("points", points);
  return result;
}

}  // namespace

Napi::Value weight_format_by_name(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const WeightFormat* format = find_format(info[0].ToString());
  if (format == nullptr) return env.Null();
  Napi::Object result = Napi::Object::New(env);
  result.Set("name", format->name);
  result.Set("code", text(env, format->code));
  result.Set("bits", format->bits);
  if (format->code == CodeType::table) {
    const uint32_t codes = 1u << format->bits;
    Napi::Array table = Napi::Array::New(env, codes);
    for (uint32_t i = 0; i < codes; ++i) table.Set(i, format->table[i]);
    result.Set("table", table);
  }
  if (!format->grid.absent()) result.Set("grid", grid_of(env, format->grid));
  set_level(result, "scales", format->scales);
  set_level(result, "superScales", format->super_scales);
  if (format->offset != Offset::none) result.Set("offset", text(env, format->offset));
  return result;
}

}  // namespace moe::binding
