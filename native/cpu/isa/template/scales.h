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

// What is done with the values that are there.
enum class Present { replaced, multiplied, added_to };

// Each segment's values of a level.
template <ScaleType type, Present present>
inline void load_values(const PanelLevel& level, const char* panel, int64_t segment, int count, float* values) {
  constexpr int64_t bytes = scale_bytes(type);
  const auto [group, passed] = std::lldiv(segment, level.segments);
  const char* first = panel + level.at + group * kPanelColumns * bytes;
#pragma GCC unroll 2
  for (int j = 0; j < kPanelVectors; ++j) {
    const char* p = first + j * kWidth * bytes;
    float* place = values + j * kWidth;
    int64_t left = level.segments - passed;
    Vector value = load_scale<type>(p, level.upper);
    for (int i = 0; i < count; ++i, --left, place += kPanelColumns) {
      if (left == 0) {
        p += kPanelColumns * bytes;
        left = level.segments;
        value = load_scale<type>(p, level.upper);
      }
      if constexpr (present == Present::replaced) {
        value.store(place);
      } else {
        const Vector other = Vector::load(place);
        (present == Present::multiplied ? value * other : value + other).store(place);
      }
    }
  }
}

template <Present present = Present::replaced>
void load_level(const PanelLevel& level, const char* panel, int64_t segment, int count, float* values) {
  switch (level.type) {
    case ScaleType::f32: return load_values<ScaleType::f32, present>(level, panel, segment, count, values);
    case ScaleType::f16: return load_values<ScaleType::f16, present>(level, panel, segment, count, values);
    case ScaleType::bf16: return load_values<ScaleType::bf16, present>(level, panel, segment, count, values);
    case ScaleType::e4m3: return load_values<ScaleType::e4m3, present>(level, panel, segment, count, values);
    case ScaleType::e8m0: return load_values<ScaleType::e8m0, present>(level, panel, segment, count, values);
    case ScaleType::u4: return load_values<ScaleType::u4, present>(level, panel, segment, count, values);
    case ScaleType::u6: return load_values<ScaleType::u6, present>(level, panel, segment, count, values);
    case ScaleType::i8: return load_values<ScaleType::i8, present>(level, panel, segment, count, values);
    case ScaleType::dynamic8: return load_values<ScaleType::dynamic8, present>(level, panel, segment, count, values);
  }
}

// For `count` segments from `segment` on: what multiplies sums of codes and, if the format has an offset, sums of x.
inline void load_scales(const PanelScales& scales, const char* panel, int64_t segment, int count, float* scale,
                        float* offset) {
  const int size = count * kPanelColumns;
  load_level(scales.scales, panel, segment, count, scale);
  if (!scales.super_scales.absent()) {
    load_level<Present::multiplied>(scales.super_scales, panel, segment, count, scale);
  }
  if (scales.offsets_scales) {
    load_values<ScaleType::f32, Present::added_to>(scales.super_zeros, panel, segment, count, scale);
  }
  if (scales.have_offset()) {
    const Vector lowered = Vector::broadcast(scales.lowered);
    if (scales.zeros.absent()) {
      for (int i = 0; i < size; i += kWidth) (lowered * Vector::load(scale + i)).store(offset + i);
    } else {
      load_level(scales.zeros, panel, segment, count, offset);
      if (!scales.super_zeros.absent()) {
        load_level<Present::multiplied>(scales.super_zeros, panel, segment, count, offset);
      }
      for (int i = 0; i < size; i += kWidth) {
        const Vector zero = Vector::load(offset + i), by = Vector::load(scale + i);
        (scales.zeros_are_codes ? (lowered - zero) * by : Vector::fma(lowered, by, Vector::zero() - zero))
            .store(offset + i);
      }
    }
  }
  if (scales.code_unit != 1.0f) {
    const Vector unit = Vector::broadcast(scales.code_unit);
    for (int i = 0; i < size; i += kWidth) (Vector::load(scale + i) * unit).store(scale + i);
  }
}

// The scales and offsets of the segments of a block of k: scales(s) and then offsets(s) are those of segment s.

// As the panel has them. They are read once and in order.
class SegmentScales {
 public:
  explicit SegmentScales(const TileArguments& t) : t_(t) {}

  const float* scales(int64_t segment) {
    if (segment >= end_) {
      const int64_t left = t_.k / t_.scales->segment - segment;
      load_scales(*t_.scales, t_.panel, t_.first_k / t_.scales->segment + segment,
                  static_cast<int>(std::min<int64_t>(kSegmentsAtOnce, left)), scale_, offset_);
      first_ = segment;
      end_ = segment + kSegmentsAtOnce;
    }
    return scale_ + (segment - first_) * kPanelColumns;
  }
  const float* offsets(int64_t segment) const { return offset_ + (segment - first_) * kPanelColumns; }

 private:
  const TileArguments& t_;
  int64_t first_ = 0, end_ = 0;
  alignas(64) SegmentValues scale_, offset_;
};

// As unpack_scales() leaves them for all tiles, behind unpacked codes of so many bytes, in whole groups of k:
// [segments][column] each.
template <int code_bytes, int group = 1>
class UnpackedScales {
 public:
  // Where they begin, in bytes.
  static int64_t scales_at(const TileArguments& t) {
    return (t.k + group - 1) / group * group * code_bytes * kPanelColumns;
  }
  static int64_t offsets_at(const TileArguments& t) {
    return scales_at(t) + t.k / t.scales->segment * kPanelColumns * int64_t{sizeof(float)};
  }

  explicit UnpackedScales(const TileArguments& t)
      : scales_(reinterpret_cast<const float*>(t.w + scales_at(t))),
        offsets_(reinterpret_cast<const float*>(t.w + offsets_at(t))) {}
  const float* scales(int64_t segment) const { return scales_ + segment * kPanelColumns; }
  const float* offsets(int64_t segment) const { return offsets_ + segment * kPanelColumns; }

 private:
  const float* scales_;
  const float* offsets_;
};

template <class Unpacked>
inline void unpack_scales(const TileArguments& t, char* unpacked) {
  const int segment = t.scales->segment;
  const int64_t first = t.first_k / segment, segments = t.k / segment;
  auto* scale = reinterpret_cast<float*>(unpacked + Unpacked::scales_at(t));
  auto* offset = reinterpret_cast<float*>(unpacked + Unpacked::offsets_at(t));
  for (int64_t done = 0; done < segments; done += kSegmentsAtOnce) {
    const int count = static_cast<int>(std::min<int64_t>(kSegmentsAtOnce, segments - done));
    load_scales(*t.scales, t.panel, first + done, count, scale + done * kPanelColumns, offset + done * kPanelColumns);
  }
}

// See SumFunction. Values of `group` consecutive k are next to each other.
template <class Value, int group>
void sum_values(const void* tile, int64_t segments, int segment, int rows, float* sums) {
  const auto* x = static_cast<const Value*>(tile);
  for (int64_t s = 0; s < segments; ++s, x += segment * rows, sums += rows) {
    for (int r = 0; r < rows; ++r) {
      float parts[4] = {};
      for (int k = 0; k < segment; k += 4) {
        for (int i = 0; i < 4; ++i) {
          parts[i] += static_cast<float>(x[((k + i) / group * rows + r) * group + i % group]);
        }
      }
      sums[r] = (parts[0] + parts[1]) + (parts[2] + parts[3]);
    }
  }
}
