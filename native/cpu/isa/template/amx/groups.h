// Products with quantised weights in tile registers, for rows of bytes and of bfloat16. See shapes.h here.
//
// Codes are unpacked to the rows of registers: once for all tiles that share a panel, or by a single tile while it
// multiplies. A group's products are summed on their own, and the sum, scaled, is added to the row's sums.

// Elements of bytes or bfloat16 and their sums.
struct ByteElements {
  using Sum = int32_t;
  static constexpr int bytes = 1;
};
struct HalfElements {
  using Sum = float;
  static constexpr int bytes = 2;
};
template <class Elements>
constexpr int kRegisterK = kTileRegisterBytes / Elements::bytes;

// Bytes of k in a register: a group's, if 64 do not divide it.
constexpr int kGroupSteps[] = {64, 32, 16};
constexpr std::array<ShapesByRows, 3> kGroupShapes = {shapes_by_rows(64), shapes_by_rows(32), shapes_by_rows(16)};

// Calls unpack(unit, its first k, its rows) for the units of a step, from `first` on; zeros follow after the last k.
template <class Codes, class Unpack>
inline void unpack_units(const TileArguments& t, int64_t first, int64_t step, char* rows, Unpack&& unpack) {
  constexpr int64_t unit_bytes = kUnit / 8 * Codes::bits * kPanelColumns;
  constexpr int64_t row_bytes = kUnit * Codes::Elements::bytes * kPanelColumns;
  const int64_t end = first + step;
  const char* unit = t.w + first / 8 * Codes::bits * kPanelColumns;
  int64_t k = first;
  for (; k < std::min(end, t.k); k += kUnit, unit += unit_bytes, rows += row_bytes) unpack(unit, k, rows);
  if (k < end) std::memset(rows, 0, static_cast<size_t>((end - k) / kUnit * row_bytes));
}

// The columns of a block of k as tiles read them, a step after the other: rows(k) are those of registers, and scales(s)
// and offsets(s) those of segment s.

// What unpack_codes() leaves for all tiles.
template <class Elements_>
class UnpackedColumns : public UnpackedScales<Elements_::bytes, kRegisterK<Elements_>> {
 public:
  using Elements = Elements_;
  using Scales = UnpackedScales<Elements::bytes, kRegisterK<Elements>>;

  UnpackedColumns(const TileArguments& t, int64_t) : Scales(t), codes_(t.w) {}
  const char* rows(int64_t k) const { return codes_ + k * Elements::bytes * kPanelColumns; }

 private:
  const char* codes_;
};

// The codes of a panel as they are.
template <class Codes_>
class PlainCodes {
 public:
  using Codes = Codes_;

  explicit PlainCodes(const TileArguments& t) : t_(t), codes_(*t.scales) {}
  // Writes a step's k, from k on, as rows of registers.
  void unpack(int64_t k, int64_t step, char* target) const {
    unpack_units<Codes>(t_, k, step, target, [&](const char* unit, int64_t, char* rows) { codes_.unpack(unit, rows); });
  }

 private:
  const TileArguments& t_;
  const Codes codes_;
};

// A block of k for all tiles, without scales.
template <class Unpacking>
inline void unpack_block(const TileArguments& t, char* target) {
  using Elements = typename Unpacking::Codes::Elements;
  constexpr int64_t step = kRegisterK<Elements>;
  Unpacking codes(t);
  unpack_steps<Elements::bytes>(t, step, target, [&](int64_t k, char* rows) { codes.unpack(k, step, rows); });
}

template <class Codes>
void unpack_codes(const TileArguments& t, char* target) {
  unpack_block<PlainCodes<Codes>>(t, target);
  unpack_scales<UnpackedColumns<typename Codes::Elements>>(t, target);
}

// The panel itself, from memory. Codes are unpacked a step before they are multiplied: registers load what has left the
// store buffer, for which they would wait otherwise.
template <class Unpacking>
class PanelRows {
 public:
  using Codes = typename Unpacking::Codes;
  using Elements = typename Codes::Elements;

  PanelRows(const TileArguments& t, int64_t step)
      : t_(t), codes_(t), stream_(t, t.k / 8 * Codes::bits * kPanelColumns), step_(step) {
    unpack(0);
  }

  const char* rows(int64_t k) {
    const char* const unpacked = slots_[slot_];
    slot_ = (slot_ + 1) % kSlots;
    unpack(k + step_);
    return unpacked;
  }

 private:
  static constexpr unsigned kSlots = 4;

  void unpack(int64_t k) {
    if (k >= t_.k) return;
    const int64_t at = k / 8 * Codes::bits * kPanelColumns, bytes = step_ / 8 * Codes::bits * kPanelColumns;
    const int64_t ahead = stream_.ahead(at);
    for (int64_t byte = 0; byte < bytes; byte += 64) __builtin_prefetch(t_.w + at + ahead + byte, 0, 2);
    codes_.unpack(k, step_, slots_[slot_]);
  }

  const TileArguments& t_;
  Unpacking codes_;
  const CodeStream stream_;
  const int64_t step_;
  unsigned slot_ = 0;
  alignas(64) char slots_[kSlots][kTileRegisterBytes * kPanelColumns];
};

// The same with scales.
template <class Codes>
class PanelColumns : public PanelRows<PlainCodes<Codes>> {
 public:
  PanelColumns(const TileArguments& t, int64_t step) : PanelRows<PlainCodes<Codes>>(t, step), scales_(t) {}
  const float* scales(int64_t segment) { return scales_.scales(segment); }
  const float* offsets(int64_t segment) const { return scales_.offsets(segment); }

 private:
  SegmentScales scales_;
};

inline Vector load_sum(const int32_t* sums) { return Words::load(reinterpret_cast<const char*>(sums)).as_float(); }
inline Vector load_sum(const float* sums) { return Vector::load(sums); }

// A group's operands beside the sums of its products.
struct GroupScales {
  const float* scale;
  const float* offset;  // null: none
  const float* x_sums;  // of its segments, if there are offsets
  int64_t segments;
  const float* x_scales;  // of rows, or null
  int64_t x_scale_stride;
};

// Adds a group's scaled sums to c, or to zeros, as add_group() of integer_tiles.h does.
template <class Sum>
inline void add_scaled(const Sum* sums, int rows, const GroupScales& group, bool accumulate, float* c) {
  alignas(64) float totals[kMaxTileRows] = {};
  const float* x_sums = group.x_sums;
  for (int64_t s = 0; group.offset != nullptr && s < group.segments; ++s, x_sums += rows) {
    for (int r = 0; r < rows; ++r) totals[r] += x_sums[r];
  }
  // In registers, as the compiler must think that stores to c change them.
  Vector scales[kPanelVectors], offsets[kPanelVectors] = {};
#pragma GCC unroll 2
  for (int j = 0; j < kPanelVectors; ++j) {
    scales[j] = Vector::load(group.scale + j * kWidth);
    if (group.offset != nullptr) offsets[j] = Vector::load(group.offset + j * kWidth);
  }
  for (int r = 0; r < rows; ++r) {
#pragma GCC unroll 2
    for (int j = 0; j < kPanelVectors; ++j) {
      const int64_t at = r * kPanelColumns + j * kWidth;
      Vector scale = scales[j];
      if (group.x_scales != nullptr) scale = scale * Vector::broadcast(group.x_scales[r * group.x_scale_stride]);
      const Vector before = accumulate ? Vector::load(c + at) : Vector::zero();
      Vector total = Vector::fma(scale, load_sum(sums + at), before);
      if (group.offset != nullptr) total = Vector::fma(offsets[j], Vector::broadcast(totals[r]), total);
      total.store(c + at);
    }
  }
}

// How k is cut: into groups, which end where a scale of weights or of x does and where a block of k does, and those
// into steps, the k of registers.
template <class Elements>
struct GroupSteps {
  explicit GroupSteps(const TileArguments& t)
      : segment(t.scales->segment),
        first(t.first_k / segment),
        segments(t.k / segment),
        group(t.scales->scales.segments),
        x_group(t.x_scales == nullptr ? group : t.x_scale_segments),
        block(t.block_k / segment),
        shortest(std::min({group, x_group, block})) {
    // The last group may be shorter: zeros follow it. Blocks of k are whole registers. What part of k this is must not
    // decide, since the sums of a register's k show in the bits.
    const bool whole = group * segment % kRegisterK<Elements> == 0 || t.scales->scales.groups <= 1;
    k = whole ? kRegisterK<Elements> : segment;
    count = (t.k + k - 1) / k;
  }
  int64_t end(int64_t begin) const {
    if (shortest == 1) return begin + 1;  // without divisions
    const int64_t at = first + begin;
    return begin + std::min({segments - begin, group - at % group, x_group - at % x_group, block - at % block});
  }
  const ShapesByRows& shapes() const {
    const int64_t bytes = k * Elements::bytes;
    return kGroupShapes[bytes == kGroupSteps[0] ? 0 : bytes == kGroupSteps[1] ? 1 : 2];
  }
  template <class Scales>
  GroupScales scales(const TileArguments& t, Scales& scales, int64_t begin, int64_t end) const {
    return {.scale = scales.scales(begin),
            .offset = t.scales->have_offset() ? scales.offsets(begin) : nullptr,
            .x_sums = t.x_sums + begin * t.rows,
            .segments = end - begin,
            .x_scales = t.x_scales == nullptr ? nullptr : t.x_scales + (first + begin) / x_group,
            .x_scale_stride = t.x_scale_stride};
  }

  int64_t segment, first, segments, group, x_group, block, shortest;
  int64_t k, count;  // of a step, and steps
};

template <class Tiles, class Columns, int parts, bool two>
void group_tile(const TileArguments& t) {
  using Elements = typename Columns::Elements;
  constexpr int64_t register_k = kRegisterK<Elements>;
  const GroupSteps<Elements> steps(t);
  configure_tiles<Tiles>(steps.shapes()[t.rows]);
  Columns columns(t, steps.k);
  const char* x = static_cast<const char*>(t.x);
  const int64_t part_bytes = int64_t{t.rows} * kTileRegisterBytes;
  BesideProducts beside(t, steps.count);
  alignas(64) typename Elements::Sum sums[kMaxTileRows * kPanelColumns];
  if (!t.accumulate && steps.segments == 0) std::fill_n(t.c, t.rows * kPanelColumns, 0.0f);
  for (int64_t begin = 0, end; begin < steps.segments; begin = end) {
    end = steps.end(begin);
    zero_sums<Tiles, two>();
    for (int64_t k = begin * steps.segment; k < end * steps.segment; k += steps.k) {
      beside.step();
      multiply_step<Tiles, std::is_same_v<Elements, ByteElements>, parts, two>(
          x + k / register_k * parts * part_bytes + k % register_k * Elements::bytes, part_bytes, columns.rows(k));
    }
    store_sums<Tiles, two>(sums, kWeightStride);
    add_scaled(sums, t.rows, steps.scales(t, columns, begin, end), t.accumulate || begin > 0, t.c);
  }
}

template <class Tiles, class Columns, int parts>
constexpr TileFunctions group_tiles() {
  return by_rows(group_tile<Tiles, Columns, parts, false>, group_tile<Tiles, Columns, parts, true>);
}
