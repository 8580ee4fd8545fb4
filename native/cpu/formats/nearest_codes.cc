#include "cpu/formats/nearest_codes.h"

#include <algorithm>
#include <cmath>

namespace moe::cpu {

namespace {

// The least value whose nearest code is `above`, between two neighbouring entries: the definition rounds differences,
// so this is found by asking it.
float step_between(const WeightFormat& format, Interval range, float below, float above) {
  const uint32_t code_above = nearest_code(format, range, above);
  float least = below, greatest = above;
  for (float middle; (middle = least + (greatest - least) / 2) > least && middle < greatest;) {
    (nearest_code(format, range, middle) == code_above ? greatest : least) = middle;
  }
  return greatest;
}

}  // namespace

NearestCodes::NearestCodes(const WeightFormat& format) : format_(format), range_(code_range(format)) {
  if (format.code != CodeType::table) return;
  for (int code = 0; code < 1 << format.bits; ++code) {
    // Of equal entries, such as 0 and -0, one is nearest.
    if (nearest_code(format, range_, format.table[code]) != static_cast<uint32_t>(code)) continue;
    codes_[static_cast<size_t>(entries_++)] = static_cast<uint8_t>(code);
  }
  std::sort(codes_.begin(), codes_.begin() + entries_,
            [&](uint8_t a, uint8_t b) { return format.table[a] < format.table[b]; });
  for (size_t i = 0; i < static_cast<size_t>(entries_); ++i) {
    values_[i] = format.table[codes_[i]];
    if (i > 0) steps_[i] = step_between(format, range_, values_[i - 1], values_[i]);
  }
}

void NearestCodes::find(const float* values, int64_t count, uint8_t* codes) const {
  if (format_.code == CodeType::table) {
    // First, how many steps a value has passed.
    for (int64_t i = 0; i < count; ++i) codes[i] = 0;
    for (int step = 1; step < entries_; ++step) {
      const float from = steps_[static_cast<size_t>(step)];
      for (int64_t i = 0; i < count; ++i) codes[i] = static_cast<uint8_t>(codes[i] + (values[i] >= from ? 1 : 0));
    }
    for (int64_t i = 0; i < count; ++i) codes[i] = codes_[codes[i]];
    return;
  }
  if (format_.code == CodeType::e4m3) {
    for (int64_t i = 0; i < count; ++i) codes[i] = static_cast<uint8_t>(to_e4m3(values[i]));
    return;
  }
  const auto mask = static_cast<int32_t>((1u << format_.bits) - 1u);
  const Interval range = range_;
  for (int64_t i = 0; i < count; ++i) {
    const auto integer = static_cast<int32_t>(to_integer(clamped(values[i], range.lowest, range.highest)));
    codes[i] = static_cast<uint8_t>(integer & mask);
  }
}

void NearestCodes::round(const float* values, int64_t count, float* rounded) const {
  if (format_.code == CodeType::table) {
    for (int64_t i = 0; i < count; ++i) rounded[i] = values_[0];
    for (int step = 1; step < entries_; ++step) {
      const float from = steps_[static_cast<size_t>(step)], value = values_[static_cast<size_t>(step)];
      for (int64_t i = 0; i < count; ++i) rounded[i] = values[i] >= from ? value : rounded[i];
    }
    return;
  }
  if (format_.code == CodeType::e4m3) {
    for (int64_t i = 0; i < count; ++i) rounded[i] = from_e4m3(to_e4m3(values[i]));
    return;
  }
  const Interval range = range_;
  for (int64_t i = 0; i < count; ++i) rounded[i] = to_integer(clamped(values[i], range.lowest, range.highest));
}

}  // namespace moe::cpu
