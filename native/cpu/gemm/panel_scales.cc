#include "cpu/gemm/panel_scales.h"

#include <algorithm>
#include <array>

#include "core/divide.h"
#include "cpu/gemm/panel_codes.h"

namespace moe::cpu {

namespace {

// Places levels of a panel one after another.
class LevelPlacer {
 public:
  LevelPlacer(int64_t panel_columns, int64_t segments, int segment)
      : panel_columns_(panel_columns), segments_(segments), segment_(segment) {}

  // With values of `type`, which may differ from the level's own. Of odd4, two take a byte.
  PanelLevel place(const ScaleLevel& level, ScaleType type) {
    if (level.absent()) return {};
    const int64_t of_each = level.columns == 0 ? segments_ : level.columns / segment_;
    PanelLevel placed{.type = type, .at = bytes_, .groups = ceil_divide(segments_, of_each), .segments = of_each};
    const int64_t values = type == ScaleType::odd4 ? ceil_divide(placed.groups, 2) : placed.groups;
    bytes_ += values * panel_columns_ * scale_bytes(type);
    return placed;
  }
  PanelLevel place(const ScaleLevel& level) { return place(level, panel_type(level.type)); }
  int64_t bytes() const { return bytes_; }

 private:
  int64_t panel_columns_, segments_;
  int segment_;
  int64_t bytes_ = 0;
};

// The levels with `of_each` segments counted as one.
PanelLevels counted_in(PanelLevels levels, int64_t of_each) {
  for (PanelLevel* level : {&levels.scales, &levels.super_scales, &levels.zeros, &levels.super_zeros}) {
    level->segments = ceil_divide(level->segments, of_each);
  }
  return levels;
}

// Whether sums over `of_each` segments stay within groups of every level.
bool stay_within_groups(const PanelLevels& levels, int64_t of_each) {
  const std::array all{levels.scales, levels.super_scales, levels.zeros, levels.super_zeros};
  return std::ranges::all_of(all, [&](const PanelLevel& level) {
    return level.absent() || level.groups == 1 || level.segments % of_each == 0;
  });
}

// The longest sums of floats that the levels and k allow.
int longest_sum(const PanelLevels& levels, int segment, int64_t padded_k) {
  int sum = kLongestSum;
  while (sum > segment && (padded_k % (kSumsAtOnce * sum) != 0 || !stay_within_groups(levels, sum / segment))) sum /= 2;
  return sum;
}

}  // namespace

PanelLevels panel_levels(const WeightFormat& format, int64_t panel_columns, int64_t padded_k, bool compact) {
  const int segment = segment_of(format);
  LevelPlacer placer(panel_columns, std::max<int64_t>(1, padded_k / segment), segment);
  PanelLevels levels;
  levels.super_scales = placer.place(format.super_scales);
  levels.scales = compact ? placer.place(format.scales, format.scales.type) : placer.place(format.scales);
  switch (format.offset) {
    case Offset::none: break;
    // Integers of a byte.
    case Offset::zero_point: levels.zeros = placer.place(format.scales, ScaleType::u6); break;
    case Offset::scale_offset: levels.super_zeros = placer.place(format.super_zeros()); break;
    case Offset::minimum:
      levels.super_zeros = placer.place(format.super_scales);
      if (format.scales.type == ScaleType::u4) {
        levels.zeros = levels.scales;
        levels.zeros.upper = true;
      } else {
        levels.zeros = placer.place(format.scales);
      }
  }
  levels.bytes = round_up(placer.bytes(), kLineBytes);
  return levels;
}

PanelScales::PanelScales(const WeightFormat& format, int64_t panel_columns, int64_t padded_k)
    : segment(segment_of(format)),
      zeros_are_codes(format.offset == Offset::zero_point),
      offsets_scales(format.offset == Offset::scale_offset),
      lowered(lowered_by(format)) {
  const int unit = std::max(1, table_unit(format));
  // See Vector::load_e4m3.
  code_unit = format.code == CodeType::e4m3 ? 256.0f : 1.0f / static_cast<float>(unit);
  static_cast<PanelLevels&>(*this) = panel_levels(format, panel_columns, padded_k, false);
  const bool plain_type = scales.type == ScaleType::f32 || scales.type == ScaleType::f16 ||
                          scales.type == ScaleType::bf16 || scales.type == ScaleType::e8m0;
  one_level = plain_type && super_scales.absent() && !offsets_scales && !have_offset();
  of_groups = counted_in(*this, scales.segments);
  sum = longest_sum(*this, segment, padded_k);
  of_sums = counted_in(*this, sum / segment);
  if (format.bits <= 6) fill_table(format, unit);
}

void PanelScales::fill_table(const WeightFormat& format, int unit) {
  const int codes = 1 << format.bits;
  const int sign = packed_unsigned(format.bits) ? 0 : codes / 2;
  for (int code = 0; code < codes; ++code) {
    table[code] = format.code == CodeType::table ? format.table[code] * static_cast<float>(unit)
                                                 : static_cast<float>((code ^ sign) - codes / 2);
  }
  for (int filled = codes; filled < kTableSize; filled *= 2) std::copy_n(table, filled, table + filled);
}

}  // namespace moe::cpu
