// The scales and offsets of segments of quantised weights, as float32. See kernels.h here, and cpu/gemm/panel_scales.h.

// Segments whose scales are read at once.
constexpr int kSegmentsAtOnce = 8;
using SegmentValues = float[kSegmentsAtOnce * kPanelColumns];

template <ScaleType type>
inline Vector load_scale(const char* p, bool upper) {
  const auto* bytes = reinterpret_cast<const uint8_t*>(p);
  if constexpr (type == ScaleType::f32) return Vector::load(reinterpret_cast<const float*>(p));
  if constexpr (type == ScaleType::f16) return Vector::load(reinterpret_cast<const f16*>(p));
  if constexpr (type == ScaleType::bf16) return Vector::load(reinterpret_cast<const bf16*>(p));
  if constexpr (type == ScaleType::e4m3) return Vector::load_e4m3(bytes) * Vector::broadcast(256.0f);
  if constexpr (type == ScaleType::e8m0) return Vector::load_e8m0(bytes);
  if constexpr (type == ScaleType::u6) return Vector::load(bytes);
  if constexpr (type == ScaleType::i8) return Vector::load(reinterpret_cast<const int8_t*>(p));
  if constexpr (type == ScaleType::dynamic8) {
    alignas(64) float values[kWidth];
    for (int i = 0; i < kWidth; ++i) values[i] = kDynamic8Table.values[bytes[i]];
    return Vector::load(values);
  }
  if constexpr (type == ScaleType::u4) {
    Vector low, high;
    Vector::load_nibbles(bytes, low, high);
    return upper ? high : low;
  }
}

// The group that has a segment, and how many of its segments come before that one.
struct GroupPlace {
  // Divides by 32 bits, and only where it must: the divisions of 64 bits that some processors have take as long as the
  // products of a segment.
  GroupPlace(int64_t segment, int64_t segments_of_each) : group(0), passed(segment) {
    if (segment < segments_of_each) return;
    const auto at = static_cast<uint32_t>(segment), each = static_cast<uint32_t>(segments_of_each);
    group = at / each;
    passed = at % each;
  }

  int64_t group, passed;
};

// What becomes of the values that are there: they are replaced, by values as they are or times a unit, multiplied or
// added to.
enum class Present { replaced, replaced_in_units, multiplied, added_to };

template <Present present>
inline void set_values(Vector value, Vector unit, float* place) {
  if constexpr (present == Present::replaced) value.store(place);
  if constexpr (present == Present::replaced_in_units) (value * unit).store(place);
  if constexpr (present == Present::multiplied) (value * Vector::load(place)).store(place);
  if constexpr (present == Present::added_to) (value + Vector::load(place)).store(place);
}

// Each segment's values of a level.
template <ScaleType type, Present present>
inline void load_values(const PanelLevel& level, const char* panel, int64_t segment, int count, float unit_value,
                        float* values) {
  constexpr int64_t bytes = scale_bytes(type), vector_bytes = kWidth * bytes, group_bytes = kPanelColumns * bytes;
  const Vector unit = Vector::broadcast(unit_value);
  const bool upper = level.upper;
  if (level.segments == 1) {
    const char* p = panel + level.at + segment * group_bytes;
    for (const char* end = p + count * group_bytes; p != end; p += group_bytes, values += kPanelColumns) {
#pragma GCC unroll 2
      for (int j = 0; j < kPanelVectors; ++j) {
        set_values<present>(load_scale<type>(p + j * vector_bytes, upper), unit, values + j * kWidth);
      }
    }
    return;
  }
  const auto [group, passed] = GroupPlace(segment, level.segments);
  const char* first = panel + level.at + group * group_bytes;
#pragma GCC unroll 2
  for (int j = 0; j < kPanelVectors; ++j) {
    const char* p = first + j * vector_bytes;
    float* place = values + j * kWidth;
    int64_t left = level.segments - passed;
    Vector value = load_scale<type>(p, upper);
    for (int i = 0; i < count; ++i, --left, place += kPanelColumns) {
      if (left == 0) {
        p += group_bytes;
        left = level.segments;
        value = load_scale<type>(p, upper);
      }
      set_values<present>(value, unit, place);
    }
  }
}

// Calls use.operator()<type>() for a type.
template <class Use>
[[gnu::always_inline]] inline void for_scale_type(ScaleType type, Use&& use) {
  switch (type) {
    case ScaleType::f32: return use.template operator()<ScaleType::f32>();
    case ScaleType::f16: return use.template operator()<ScaleType::f16>();
    case ScaleType::bf16: return use.template operator()<ScaleType::bf16>();
    case ScaleType::e4m3: return use.template operator()<ScaleType::e4m3>();
    case ScaleType::e8m0: return use.template operator()<ScaleType::e8m0>();
    case ScaleType::u4: return use.template operator()<ScaleType::u4>();
    case ScaleType::u6: return use.template operator()<ScaleType::u6>();
    case ScaleType::i8: return use.template operator()<ScaleType::i8>();
    case ScaleType::dynamic8: return use.template operator()<ScaleType::dynamic8>();
    case ScaleType::odd4: break;  // See panel_type().
  }
}

template <Present present = Present::replaced>
void load_level(const PanelLevel& level, const char* panel, int64_t segment, int count, float* values,
                float unit = 1.0f) {
  for_scale_type(level.type,
                 [&]<ScaleType type>() { load_values<type, present>(level, panel, segment, count, unit, values); });
}

// See load_scales(): of segments below one upper scale, in one pass, which takes half as long as level after level.
template <ScaleType type, bool minima>
inline void load_lower_scales(const PanelScales& scales, const PanelLevels& levels, const char* panel, int64_t segment,
                              int count, int64_t group, float* scale, float* offset) {
  alignas(64) float upper[kPanelColumns], upper_minimum[kPanelColumns];
  const auto load_upper = [&]<Present present>(PanelLevel level, float* values) {
    level.segments = 1;  // as segments are groups here
    load_level<present>(level, panel, group, 1, values, scales.code_unit);
  };
  load_upper.template operator()<Present::replaced_in_units>(levels.super_scales, upper);
  if constexpr (minima) load_upper.template operator()<Present::replaced>(levels.super_zeros, upper_minimum);
  constexpr int64_t bytes = scale_bytes(type), group_bytes = kPanelColumns * bytes;
  const bool upper_half = levels.scales.upper, minimum_upper_half = levels.zeros.upper;
  const bool has_offset = scales.have_offset();
  const Vector lowered = Vector::broadcast(scales.lowered);
#pragma GCC unroll 2
  for (int j = 0; j < kPanelVectors; ++j) {
    const int64_t first = segment * group_bytes + j * kWidth * bytes;
    const char* p = panel + levels.scales.at + first;
    const char* m = panel + levels.zeros.at + first;
    const Vector by_upper = Vector::load(upper + j * kWidth);
    const Vector by_minimum = minima ? Vector::load(upper_minimum + j * kWidth) : Vector::zero();
    for (int i = j * kWidth; i < count * kPanelColumns; i += kPanelColumns, p += group_bytes, m += group_bytes) {
      Vector lower, lower_minimum;
      if constexpr (minima && type == ScaleType::u4) {
        Vector::load_nibbles(reinterpret_cast<const uint8_t*>(p), lower, lower_minimum);
      } else {
        lower = load_scale<type>(p, upper_half);
        if constexpr (minima) lower_minimum = load_scale<type>(m, minimum_upper_half);
      }
      const Vector by = lower * by_upper;
      by.store(scale + i);
      if constexpr (minima) {
        const Vector minimum = lower_minimum * by_minimum;
        Vector::fma(lowered, by, Vector::zero() - minimum).store(offset + i);
      } else if (has_offset) {
        (lowered * by).store(offset + i);
      }
    }
  }
}

// The same of any segments, where each has a scale below an upper one, and a minimum likewise or none.
template <ScaleType type>
[[gnu::noinline]] void load_two_levels(const PanelScales& scales, const PanelLevels& levels, const char* panel,
                                       int64_t segment, int count, float* scale, float* offset) {
  auto [group, passed] = GroupPlace(segment, levels.super_scales.segments);
  for (int left = count; left > 0; ++group, passed = 0) {
    const int of_group = static_cast<int>(std::min<int64_t>(left, levels.super_scales.segments - passed));
    levels.super_zeros.absent()
        ? load_lower_scales<type, false>(scales, levels, panel, segment, of_group, group, scale, offset)
        : load_lower_scales<type, true>(scales, levels, panel, segment, of_group, group, scale, offset);
    segment += of_group;
    left -= of_group;
    scale += of_group * kPanelColumns;
    offset += of_group * kPanelColumns;
  }
}

// For `count` segments from `segment` on: what multiplies sums of codes and, if the format has an offset, sums of x.
inline void load_scales(const PanelScales& scales, const PanelLevels& levels, const char* panel, int64_t segment,
                        int count, float* scale, float* offset) {
  if (!levels.super_scales.absent() && levels.scales.segments == 1 && !scales.zeros_are_codes &&
      !scales.offsets_scales) {
    return for_scale_type(levels.scales.type, [&]<ScaleType type>() {
      load_two_levels<type>(scales, levels, panel, segment, count, scale, offset);
    });
  }
  const int size = count * kPanelColumns;
  // Codes with offsets are in units of one.
  const PanelLevel& upper = levels.super_scales.absent() ? levels.scales : levels.super_scales;
  if (scales.code_unit == 1.0f) {
    load_level(upper, panel, segment, count, scale);
  } else {
    load_level<Present::replaced_in_units>(upper, panel, segment, count, scale, scales.code_unit);
  }
  if (!levels.super_scales.absent()) {
    load_level<Present::multiplied>(levels.scales, panel, segment, count, scale);
  }
  if (scales.offsets_scales) {
    load_level<Present::added_to>(levels.super_zeros, panel, segment, count, scale);
  }
  if (!scales.have_offset()) return;
  const Vector lowered = Vector::broadcast(scales.lowered);
  if (levels.zeros.absent()) {
    for (int i = 0; i < size; i += kWidth) (lowered * Vector::load(scale + i)).store(offset + i);
    return;
  }
  load_level(levels.zeros, panel, segment, count, offset);
  for (int i = 0; i < size; i += kWidth) {
    const Vector zero = Vector::load(offset + i), by = Vector::load(scale + i);
    (scales.zeros_are_codes ? (lowered - zero) * by : Vector::fma(lowered, by, Vector::zero() - zero))
        .store(offset + i);
  }
}
