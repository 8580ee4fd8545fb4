// Tiles of products of 8-bit integer rows with weights whose scales are integers too, below a float scale for several
// of them: the k-quants. See integer_tiles.h.
//
// A segment's scale is a factor of its products. Sums run on through all segments of an upper scale, exact in 32 bits.
// Where Products adds pairs of products by multiplying them by one, it multiplies by the factor instead, at no cost.

// What multiplies the sums of x: the minima of unsigned codes, whose bias cancels what they were lowered by when they
// were packed; the scales of others with a bias; or nothing.
enum class FactorOffset { none, minimum, bias };
template <CodeType code, int bias>
constexpr FactorOffset kFactorOffset = code == CodeType::unsigned_integer ? FactorOffset::minimum
                                       : bias == 0                        ? FactorOffset::none
                                                                          : FactorOffset::bias;

// The factors of segments, as words or in both halves of words, and what multiplies their sums of x.

// As the panel has them.
template <ScaleType type, bool doubled, FactorOffset offset>
class PanelFactors {
 public:
  explicit PanelFactors(const TileArguments& t)
      : scales_(first_of(t.scales->scales, t)), minima_(minimum ? first_of(t.scales->zeros, t) : nullptr) {}

  void load(int64_t segment, Words (&factors)[kPanelVectors]) const {
    using Byte = std::conditional_t<type == ScaleType::i8, int8_t, uint8_t>;
    const auto* bytes = reinterpret_cast<const Byte*>(scales_) + segment * kPanelColumns;
#pragma GCC unroll 2
    for (int j = 0; j < kPanelVectors; ++j, bytes += kWidth) {
      factors[j] = doubled ? Words::load_doubled(bytes) : Words::load_bytes(bytes);
      if constexpr (type == ScaleType::u4) factors[j] = factors[j].masked_and_flipped(0x000f000f, 0);
    }
  }
  Vector offset_of(int64_t segment, int j) const {
    const char* from = (minimum ? minima_ : scales_) + segment * kPanelColumns + j * kWidth;
    return load_scale<type>(from, minimum && type == ScaleType::u4);
  }

 private:
  static constexpr bool minimum = offset == FactorOffset::minimum;
  static const char* first_of(const PanelLevel& level, const TileArguments& t) {
    return t.panel + level.at + t.scales->segments_in(t.first_k) * kPanelColumns;
  }

  const char* scales_;
  const char* minima_;
};

// As unpack_factors() leaves them, behind codes of a byte in whole groups of k.
template <int group = 1>
class UnpackedFactors {
 public:
  using Places = UnpackedScales<1, group>;

  explicit UnpackedFactors(const TileArguments& t)
      : factors_(t.w + Places::scales_at(t)), offsets_(reinterpret_cast<const float*>(t.w + Places::offsets_at(t))) {}
  void load(int64_t segment, Words (&factors)[kPanelVectors]) const {
#pragma GCC unroll 2
    for (int j = 0; j < kPanelVectors; ++j) {
      factors[j] = Words::load(factors_ + 4 * (segment * kPanelColumns + j * kWidth));
    }
  }
  Vector offset_of(int64_t segment, int j) const {
    return Vector::load(offsets_ + segment * kPanelColumns + j * kWidth);
  }

 private:
  const char* factors_;
  const float* offsets_;
};

template <class Factors, int group = 1>
inline void unpack_factors(const TileArguments& t, char* unpacked) {
  using Places = UnpackedScales<1, group>;
  const Factors factors(t);
  char* to = unpacked + Places::scales_at(t);
  auto* offsets = reinterpret_cast<float*>(unpacked + Places::offsets_at(t));
  const int64_t segments = t.scales->segments_in(t.k);
  for (int64_t s = 0; s < segments; ++s) {
    Words by[kPanelVectors];
    factors.load(s, by);
    for (int j = 0; j < kPanelVectors; ++j, to += 4 * kWidth, offsets += kWidth) {
      by[j].store(to);
      factors.offset_of(s, j).store(offsets);
    }
  }
}

// The upper scales of a run of segments.
template <FactorOffset offset>
class UpperScales {
 public:
  UpperScales(const TileArguments& t, const SegmentRuns& run) {
    load<Present::replaced_in_units>(t.scales->super_scales, t, run.group, scales_);
    if constexpr (offset == FactorOffset::minimum) {
      load<Present::replaced>(t.scales->super_zeros, t, run.group, minima_);
    }
  }
  Vector scale(int j) const { return Vector::load(scales_ + j * kWidth); }
  Vector minimum(int j) const { return Vector::load(minima_ + j * kWidth); }

 private:
  template <Present present>
  static void load(PanelLevel level, const TileArguments& t, int64_t group, float* values) {
    level.segments = 1;  // as segments are groups here
    load_level<present>(level, t.panel, group, 1, values, t.scales->code_unit);
  }

  alignas(64) float scales_[kPanelColumns], minima_[kPanelColumns];
};

// Adds the sums [row][column] of a run of segments to c, scaled by their upper scale: those of `rows` of the tile's
// rows.
template <FactorOffset offset, int bias, int rows, class Factors>
inline void add_factor_sums(const TileArguments& t, int first_row, const Factors& factors,
                            const UpperScales<offset>& upper, const int32_t* sums, const SegmentRuns& run) {
#pragma GCC unroll 2
  for (int j = 0; j < kPanelVectors; ++j) {
    // Integers below 2^24.
    Vector moved[rows];
#pragma GCC unroll 16
    for (int r = 0; r < rows; ++r) moved[r] = Vector::zero();
    if constexpr (offset != FactorOffset::none) {
      const float* x_sums = t.x_sums + run.begin * t.rows + first_row;
      for (int64_t s = run.begin; s < run.end; ++s, x_sums += t.rows) {
        const Vector of_segment = factors.offset_of(s, j);
#pragma GCC unroll 16
        for (int r = 0; r < rows; ++r) moved[r] = Vector::fma(of_segment, Vector::broadcast(x_sums[r]), moved[r]);
      }
    }
#pragma GCC unroll 16
    for (int r = 0; r < rows; ++r) {
      const int64_t column = (first_row + r) * kPanelColumns + j * kWidth;
      Words sum = Words::load(reinterpret_cast<const char*>(sums + column));
      if constexpr (offset == FactorOffset::bias) {
        sum = sum.minus(Words::integers(moved[r]).template shifted<std::countr_zero(unsigned{bias})>());
      }
      Vector total = Vector::fma(upper.scale(j), sum.as_float(), Vector::load(t.c + column));
      if constexpr (offset == FactorOffset::minimum) {
        total = Vector::fma(upper.minimum(j), Vector::zero() - moved[r], total);
      }
      total.store(t.c + column);
    }
  }
}

// Adds sums times factors to totals [row][column].
template <int rows>
inline void add_products(const Words (&sums)[rows][kPanelVectors], const Words (&factors)[kPanelVectors],
                         int32_t* totals) {
#pragma GCC unroll 16
  for (int r = 0; r < rows; ++r) {
#pragma GCC unroll 2
    for (int j = 0; j < kPanelVectors; ++j) {
      char* place = reinterpret_cast<char*>(totals + r * kPanelColumns + j * kWidth);
      Words::load(place).plus(sums[r][j].times(factors[j])).store(place);
    }
  }
}

template <class Products, class Quads, class Factors, FactorOffset offset, template <int> class Rows, int rows>
void factor_tile(const TileArguments& t) {
  constexpr int64_t unit_bytes = kUnit / 8 * Quads::bits * kPanelColumns;
  const Quads codes(*t.scales);
  const Factors factors(t);
  const int units = t.scales->segment / kUnit;
  const int64_t segments = t.scales->segments_in(t.k);
  PacedPrefetches prefetches(t, (segments + kSegmentsAtOnce - 1) / kSegmentsAtOnce);
  const CodeStream stream(t, segments * units * unit_bytes);
  const char* unit = t.w;
  const char* x = static_cast<const char*>(t.x);
  int64_t k = 0;
  if (!t.accumulate) std::fill_n(t.c, rows * kPanelColumns, 0.0f);
  for (SegmentRuns run(t, t.scales->super_scales.segments); run.next();) {
    alignas(64) int32_t totals[rows * kPanelColumns] = {};
    Words sums[1][rows][kPanelVectors];
    clear(sums);
    for (int64_t s = run.begin; s < run.end; ++s) {
      if (s % kSegmentsAtOnce == 0) prefetches.round();
      const int64_t ahead = stream.ahead(unit - t.w);
      Words by[kPanelVectors];
      factors.load(s, by);
      for (int u = 0; u < units; ++u, unit += unit_bytes, k += kUnit) {
        const char* const of_unit = Rows<rows>::unit(x, k);
        if constexpr (Products::multiplies_pairs) {
          multiply_quads<Products, Rows<rows>>(codes, unit, ahead, of_unit, sums, by);
        } else {
          multiply_quads<Products, Rows<rows>>(codes, unit, ahead, of_unit, sums);
        }
      }
      if constexpr (Products::multiplies_pairs) continue;
      add_products(sums[0], by, totals);
      clear(sums);
    }
    if constexpr (Products::multiplies_pairs) {
#pragma GCC unroll 16
      for (int r = 0; r < rows; ++r) {
#pragma GCC unroll 2
        for (int j = 0; j < kPanelVectors; ++j) {
          sums[0][r][j].store(reinterpret_cast<char*>(totals + r * kPanelColumns + j * kWidth));
        }
      }
    }
    add_factor_sums<offset, Quads::bias, rows>(t, 0, factors, UpperScales<offset>(t, run), totals, run);
  }
}

template <class Products, class Quads, class Factors, FactorOffset offset, template <int> class Rows, int... row>
constexpr TileFunctions factor_tiles(std::integer_sequence<int, row...>) {
  return {nullptr, &factor_tile<Products, Quads, Factors, offset, Rows, row + 1>...};
}

// See UnpackFunction.
template <class Quads, class Factors>
void unpack_bytes_and_factors(const TileArguments& t, char* unpacked) {
  unpack_all_quads<Quads>(t, unpacked);
  unpack_factors<Factors>(t, unpacked);
}

// A row for integer codes of x, and weights with scales of this type.
template <class Products, class Quads, CodeType code, ScaleType type>
constexpr GemmKernel factor_kernel(const char* name, const char* formats) {
  constexpr auto all_rows = std::make_integer_sequence<int, kTileRows>();
  constexpr FactorOffset offset = kFactorOffset<code, Quads::bias>;
  using InPanel = PanelFactors<type, Products::multiplies_pairs, offset>;
  GemmKernel row = integer_kernel<Products, Quads>(name, takes_factors<code, Quads::bits, type>, formats);
  row.numbers = kFactorNumbers;
  row.tile = factor_tiles<Products, Quads, InPanel, offset, QuadRows>(all_rows);
  if constexpr (unpacks_once(std::is_same_v<Quads, FieldQuads<Quads::bits>>)) {
    using Plain = PlainQuads<Quads::largest, Quads::bias>;
    row.unpack = unpack_bytes_and_factors<Quads, InPanel>;
    row.unpacked_tile = factor_tiles<Products, Plain, UnpackedFactors<>, offset, QuadRows>(all_rows);
  } else {
    row.unpack = nullptr;
  }
  return row;
}

template <class Products>
constexpr std::array kFactorGemm = {
    factor_kernel<Products, FieldQuads<2>, CodeType::unsigned_integer, ScaleType::u4>("q2_k_int8", "q2_k"),
    factor_kernel<Products, PlaneQuads<3>, CodeType::signed_integer, ScaleType::i8>("q3_k_int8", "q3_k"),
    factor_kernel<Products, FieldQuads<4>, CodeType::unsigned_integer, ScaleType::u6>("q4_k_int8", "q4_k"),
    factor_kernel<Products, PlaneQuads<5>, CodeType::unsigned_integer, ScaleType::u6>("q5_k_int8", "q5_k"),
    factor_kernel<Products, PlaneQuads<6>, CodeType::signed_integer, ScaleType::i8>("q6_k_int8", "q6_k"),
    factor_kernel<Products, WideTableQuads<Products::signed_bytes>, CodeType::table, ScaleType::i8>("iq4_xs_int8",
                                                                                                    "iq4_xs"),
};
