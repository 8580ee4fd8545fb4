#include "core/formats/find_format.h"

#include <map>
#include <mutex>
#include <optional>
#include <string_view>

#include "core/formats/named.h"
#include "core/whole_number.h"

namespace moe {

namespace {

constexpr int kLargestGroup = 1024;

std::optional<int> number(std::string_view digits) {
  int value = 0;
  const bool whole = read_whole_number(digits, &value);
  return whole && !digits.starts_with('0') ? std::optional(value) : std::nullopt;
}

std::optional<WeightFormat> code_of(std::string_view name) {
  if (name == "e4m3") return WeightFormat{.code = CodeType::e4m3, .bits = 8};
  if (name == "e2m1") return table_format({}, kE2M1Table);
  if (name == "nf4") return table_format({}, kNF4Table);
  if (name == "fp4") return table_format({}, kFP4Table);
  if (name == "iq4") return table_format({}, kIQ4Table);
  if (name.size() != 2) return std::nullopt;
  const bool is_signed = name[0] == 'i', has_minima = name[0] == 'a';
  if (!is_signed && !has_minima && name[0] != 'u') return std::nullopt;
  const int bits = number(name.substr(1)).value_or(0);
  if (bits < 2 || bits > 8 || bits == 7) return std::nullopt;
  return WeightFormat{.code = is_signed ? CodeType::signed_integer : CodeType::unsigned_integer,
                      .bits = bits,
                      .offset = is_signed    ? Offset::none
                                : has_minima ? Offset::minimum
                                             : Offset::zero_point};
}

// Integers are scales of named formats only.
std::optional<ScaleType> scale_of(std::string_view name) {
  const std::optional<ScaleType> type = value_of<ScaleType>(name);
  return type && *type <= ScaleType::e8m0 ? type : std::nullopt;
}

std::optional<ScaleLevel> groups_of(std::string_view name, ScaleType type) {
  if (name == "channel") return ScaleLevel{type, 1, 0};
  if (name == "b128") return ScaleLevel{type, 128, 128};
  if (!name.starts_with('g')) return std::nullopt;
  const int columns = number(name.substr(1)).value_or(0);
  if (columns < 16 || columns > kLargestGroup || columns % 16 != 0) return std::nullopt;
  return ScaleLevel{type, 1, columns};
}

std::optional<WeightFormat> parse(std::string_view name) {
  const size_t first = name.find('_'), last = name.rfind('_');
  if (first == last) return std::nullopt;
  std::optional<WeightFormat> format = code_of(name.substr(0, first));
  const std::optional<ScaleType> type = scale_of(name.substr(last + 1));
  if (!format || !type) return std::nullopt;
  // Minima have a sign.
  if (format->offset == Offset::minimum && *type > ScaleType::bf16) return std::nullopt;
  const std::optional<ScaleLevel> scales = groups_of(name.substr(first + 1, last - first - 1), *type);
  if (!scales) return std::nullopt;
  format->scales = *scales;
  return format;
}

}  // namespace

const WeightFormat* find_format(const std::string& name) {
  for (const WeightFormat* format : kNamedFormats) {
    if (name == format->name) return format;
  }
  const std::optional<WeightFormat> parsed = parse(name);
  if (!parsed) return nullptr;
  // Never destroyed: devices of other threads may outlive static objects. Nodes of a map do not move.
  static auto& known = *new std::map<std::string, WeightFormat>;
  static auto& mutex = *new std::mutex;
  const std::lock_guard lock(mutex);
  const auto [entry, added] = known.try_emplace(name, *parsed);
  if (added) entry->second.name = entry->first.c_str();
  return &entry->second;
}

std::vector<const WeightFormat*> sample_formats() {
  std::vector<const WeightFormat*> formats(std::begin(kNamedFormats), std::end(kNamedFormats));
  for (const char* name :
       {"i2_g16_f32",    "i3_g32_f16",    "i4_g32_f16",      "i4_g64_bf16",      "i4_channel_f32", "i5_g32_f16",
        "i6_g64_f16",    "i8_g32_f16",    "i8_channel_bf16", "u2_g32_f16",       "u3_g64_f16",     "u4_g16_f32",
        "u4_g32_bf16",   "u4_g128_f16",   "u5_g32_f16",      "u6_g32_f16",       "u8_g128_f16",    "u8_channel_f32",
        "e4m3_g32_e8m0", "e4m3_b128_f32", "e4m3_b128_bf16",  "e4m3_channel_f32", "e2m1_g32_f16",   "nf4_g64_f32",
        "fp4_g64_f32",   "iq4_g32_f16",   "a2_g32_f16",      "a3_g64_bf16",      "a4_g64_bf16",    "a5_g32_f16",
        "a6_g64_f32",    "a8_g128_bf16"}) {
    formats.push_back(find_format(name));
  }
  return formats;
}

}  // namespace moe
