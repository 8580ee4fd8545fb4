#include "cpu/gemm/panel_scales.h"

#include <algorithm>
#include <array>

#include "core/divide.h"

namespace moe::cpu {

PanelScales::PanelScales(const WeightFormat& format, int64_t panel_columns, int64_t padded_k)
    : segment(segment_of(format)),
      zeros_are_codes(format.offset == Offset::zero_point),
      offsets_scales(format.offset == Offset::scale_offset),
      lowered(lowered_by(format)) {
  const int unit = std::max(1, table_unit(format));
  // See Vector::load_e4m3.
  code_unit = format.code == CodeType::e4m3 ? 256.0f : 1.0f / static_cast<float>(unit);
  const int64_t segments = std::max<int64_t>(1, padded_k / segment);
  const auto place = [&](const ScaleLevel& level, ScaleType type) {
    if (level.absent()) return PanelLevel{};
    const int64_t of_each = level.columns == 0 ? segments : level.columns / segment;
    PanelLevel placed{.type = type, .at = bytes, .groups = ceil_divide(segments, of_each), .segments = of_each};
    bytes += placed.groups * panel_columns * scale_bytes(type);
    return placed;
  };
  super_scales = place(format.super_scales, format.super_scales.type);
  scales = place(format.scales, format.scales.type);
  if (format.offset == Offset::zero_point) {
    // Integers of a byte.
    zeros = place(format.scales, ScaleType::u6);
  } else if (offsets_scales) {
    super_zeros = place(format.super_zeros(), ScaleType::f32);
  } else if (format.offset == Offset::minimum) {
    super_zeros = place(format.super_scales, format.super_scales.type);
    if (format.scales.type == ScaleType::u4) {
      zeros = scales;
      zeros.upper = true;
    } else {
      zeros = place(format.scales, format.scales.type);
    }
  }
  const bool plain_type = scales.type == ScaleType::f32 || scales.type == ScaleType::f16 ||
                          scales.type == ScaleType::bf16 || scales.type == ScaleType::e8m0;
  one_level = plain_type && super_scales.absent() && !offsets_scales && !have_offset();
  // The levels, with this many segments as one.
  const auto counted_in = [&](int64_t of_each) {
    PanelLevels levels = *this;
    for (PanelLevel* level : {&levels.scales, &levels.super_scales, &levels.zeros, &levels.super_zeros}) {
      level->segments = ceil_divide(level->segments, of_each);
    }
    return levels;
  };
  of_groups = counted_in(scales.segments);
  // Where a level has one group, any sums are within it.
  const auto within_groups = [&](int64_t of_each) {
    return std::ranges::all_of(std::array{scales, super_scales, zeros, super_zeros}, [&](const PanelLevel& level) {
      return level.absent() || level.groups == 1 || level.segments % of_each == 0;
    });
  };
  sum = kLongestSum;
  while (sum > segment && (padded_k % (kSumsAtOnce * sum) != 0 || !within_groups(sum / segment))) sum /= 2;
  of_sums = counted_in(sum / segment);
  constexpr int64_t kLine = 64;
  bytes = round_up(bytes, kLine);
  if (format.bits > 6) return;
  const int codes = 1 << format.bits;
  for (int code = 0; code < codes; ++code) {
    table[code] = format.code == CodeType::table ? format.table[code] * static_cast<float>(unit)
                                                 : static_cast<float>((code ^ codes / 2) - codes / 2);
  }
  for (int filled = codes; filled < kTableSize; filled *= 2) std::copy_n(table, filled, table + filled);
}

}  // namespace moe::cpu
