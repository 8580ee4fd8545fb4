// The scales and offsets of a call's segments, as tiles ask for them: scales(s), then offsets(s), are those of segment
// s; of runs of segments, load(run), then offsets(run). See kernels.h here, and scales.h.

// Goes through the runs of consecutive segments of a call that are summed before they are scaled: those of a group, or
// what a block of k has of them.
class SegmentRuns {
 public:
  SegmentRuns(const TileArguments& t, int64_t segments_of_group)
      : segments_(t.scales->segments_in(t.k)),
        of_group_(segments_of_group),
        of_block_(t.scales->segments_in(t.block_k)) {
    const int64_t first = t.scales->segments_in(t.first_k);
    const GroupPlace place(first, of_group_);
    group = place.group;
    group_end_ = of_group_ - place.passed;
    block_end_ = of_block_ - GroupPlace(first, of_block_).passed;
  }
  bool next() {
    begin = end;
    if (begin == segments_) return false;
    if (begin == group_end_) {
      group_end_ += of_group_;
      ++group;
    }
    if (begin == block_end_) block_end_ += of_block_;
    end = std::min({segments_, group_end_, block_end_});
    return true;
  }

  int64_t begin = 0, end = 0;  // segments of the call
  int64_t group;               // of the weight

 private:
  int64_t segments_, of_group_, of_block_, group_end_, block_end_;
};

// Reads a panel's scales and offsets in order, kSegmentsAtOnce at a time.
class PanelValues {
 public:
  PanelValues(const PanelScales& scales, const PanelLevels& levels, const char* panel, int64_t end)
      : scales_(scales), levels_(levels), panel_(panel), end_(end) {}

  [[gnu::always_inline]] const float* scales(int64_t i) {
    if (i >= loaded_) load(i);
    return scale_ + (i - first_) * kPanelColumns;
  }
  const float* offsets(int64_t i) const { return offset_ + (i - first_) * kPanelColumns; }

 private:
  [[gnu::noinline]] void load(int64_t i) {
    load_scales(scales_, levels_, panel_, i, static_cast<int>(std::min<int64_t>(kSegmentsAtOnce, end_ - i)), scale_,
                offset_);
    first_ = i;
    loaded_ = i + kSegmentsAtOnce;
  }

  const PanelScales& scales_;
  const PanelLevels& levels_;
  const char* panel_;
  int64_t end_, first_ = 0, loaded_ = 0;
  alignas(64) SegmentValues scale_, offset_;
};

// Those of a call's segments.
class SegmentScales {
 public:
  explicit SegmentScales(const TileArguments& t)
      : SegmentScales(t, *t.scales, t.scales->segments_in(t.first_k), t.scales->segments_in(t.k)) {}

  [[gnu::always_inline]] const float* scales(int64_t segment) { return values_.scales(begin_ + segment); }
  const float* offsets(int64_t segment) const { return values_.offsets(begin_ + segment); }

 protected:
  SegmentScales(const TileArguments& t, const PanelLevels& levels, int64_t begin, int64_t count)
      : begin_(begin), values_(*t.scales, levels, t.panel, begin + count) {}

 private:
  int64_t begin_;
  PanelValues values_;
};

// Those of the sums of floats. A call has whole sums, or lies within one.
class SumScales : public SegmentScales {
 public:
  explicit SumScales(const TileArguments& t)
      : SegmentScales(t, t.scales->of_sums, t.scales->sums_in(t.first_k),
                      std::max<int64_t>(1, t.scales->sums_in(t.k))) {}
};

// Those of the groups that a call's runs lie in.
class RunScales {
 public:
  explicit RunScales(const TileArguments& t)
      : scales_(*t.scales),
        first_(t.panel + t.scales->of_groups.scales.at),
        values_(*t.scales, t.scales->of_groups, t.panel, t.scales->scales.groups) {}

  // What multiplies the sums of a run; its offsets() are loaded too.
  [[gnu::always_inline]] void load(const SegmentRuns& run, Vector (&by)[kPanelVectors]) {
    if (scales_.one_level) return load_one_level(run.group, by);
    load_columns(values_.scales(run.group), by);
  }
  const float* offsets(const SegmentRuns& run) const { return values_.offsets(run.group); }

 private:
  // Read where they are used, which takes fewer instructions than reading some at once.
  [[gnu::always_inline]] void load_one_level(int64_t group, Vector (&by)[kPanelVectors]) const {
    const auto load = [&]<ScaleType type>() {
      constexpr int64_t bytes = scale_bytes(type);
      const char* p = first_ + group * kPanelColumns * bytes;
#pragma GCC unroll 2
      for (int j = 0; j < kPanelVectors; ++j) {
        by[j] = load_scale<type>(p + j * kWidth * bytes, false) * Vector::broadcast(scales_.code_unit);
      }
    };
    switch (scales_.scales.type) {
      case ScaleType::f32: return load.template operator()<ScaleType::f32>();
      case ScaleType::f16: return load.template operator()<ScaleType::f16>();
      case ScaleType::bf16: return load.template operator()<ScaleType::bf16>();
      default: return load.template operator()<ScaleType::e8m0>();
    }
  }

  const PanelScales& scales_;
  const char* first_;
  PanelValues values_;
};

// Those that unpack_scales() leaves for all tiles, [segments][column] each. They follow the unpacked codes, which take
// `code_bytes` each and are padded to whole groups of k.
template <int code_bytes, int group = 1>
class UnpackedScales {
 public:
  // Where they begin, in bytes.
  static int64_t scales_at(const TileArguments& t) {
    return (t.k + group - 1) / group * group * code_bytes * kPanelColumns;
  }
  static int64_t offsets_at(const TileArguments& t) {
    return scales_at(t) + t.scales->segments_in(t.k) * kPanelColumns * int64_t{sizeof(float)};
  }

  explicit UnpackedScales(const TileArguments& t)
      : scales_(reinterpret_cast<const float*>(t.w + scales_at(t))),
        offsets_(reinterpret_cast<const float*>(t.w + offsets_at(t))) {}
  const float* scales(int64_t segment) const { return scales_ + segment * kPanelColumns; }
  const float* offsets(int64_t segment) const { return offsets_ + segment * kPanelColumns; }
  void load(const SegmentRuns& run, Vector (&by)[kPanelVectors]) const { load_columns(scales(run.end - 1), by); }
  const float* offsets(const SegmentRuns& run) const { return offsets(run.end - 1); }

 private:
  const float* scales_;
  const float* offsets_;
};

template <class Unpacked>
inline void unpack_levels(const TileArguments& t, const PanelLevels& levels, int64_t first, int64_t count,
                          char* unpacked) {
  auto* scale = reinterpret_cast<float*>(unpacked + Unpacked::scales_at(t));
  auto* offset = reinterpret_cast<float*>(unpacked + Unpacked::offsets_at(t));
  for (int64_t done = 0; done < count; done += kSegmentsAtOnce) {
    const int now = static_cast<int>(std::min<int64_t>(kSegmentsAtOnce, count - done));
    load_scales(*t.scales, levels, t.panel, first + done, now, scale + done * kPanelColumns,
                offset + done * kPanelColumns);
  }
}
template <class Unpacked>
inline void unpack_scales(const TileArguments& t, char* unpacked) {
  unpack_levels<Unpacked>(t, *t.scales, t.scales->segments_in(t.first_k), t.scales->segments_in(t.k), unpacked);
}
// Of the sums of floats.
template <class Unpacked>
inline void unpack_sum_scales(const TileArguments& t, char* unpacked) {
  unpack_levels<Unpacked>(t, t.scales->of_sums, t.scales->sums_in(t.first_k), t.scales->sums_in(t.k), unpacked);
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
