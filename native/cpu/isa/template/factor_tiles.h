// Tiles of products of 8-bit integer rows with weights whose segments have a scale each, below a float scale for
// several of them: the k-quants, whose scales are integers too; and, for digits, nvfp4. See integer_tiles.h.
//
// A segment's scale is a factor of its products. Sums run on through all segments of an upper scale, exact in 32 bits,
// or, of digits, as the floats that a segment's three sums stand for.
// Where Products adds pairs of products by multiplying them by one, it multiplies by the factor instead, at no cost.

// What multiplies the sums of x: the minima of unsigned codes, whose bias cancels what they were lowered by when they
// were packed; the scales of others with a bias; or nothing.
enum class FactorOffset { none, minimum, bias };
template <CodeType code, int bias>
constexpr FactorOffset kFactorOffset = code == CodeType::unsigned_integer ? FactorOffset::minimum
                                       : bias == 0                        ? FactorOffset::none
                                                                          : FactorOffset::bias;

// The factors of segments, as words, in both halves of words, or as floats, and what multiplies their sums of x.

// As the panel has them.
template <ScaleType type, bool doubled, FactorOffset offset>
class PanelFactors {
 public:
  using Factor = Words;
  static constexpr ScaleType upper = ScaleType::f16;  // of the scales' scales

  explicit PanelFactors(const TileArguments& t)
      : scales_(first_of(t.scales->scales, t)), minima_(minimum ? first_of(t.scales->zeros, t) : nullptr) {}

  void load(int64_t segment, Words (&factors)[kPanelVectors]) const {
    using Byte = std::conditional_t<type == ScaleType::i8, int8_t, uint8_t>;
    const auto* bytes = reinterpret_cast<const Byte*>(scales_) + segment * kPanelColumns;
#pragma GCC unroll 2
    for (int j = 0; j < kPanelVectors; ++j, bytes += kWidth) {
      factors[j] = doubled ? Words::load_doubled(bytes) : Words::load_bytes(bytes);
      if constexpr (type == ScaleType::u4) factors[j] = factors[j].masked(0x000f000f);
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

// Floats, of codes with a bias.
template <ScaleType type>
class PanelFloatFactors {
 public:
  using Factor = Vector;
  static constexpr ScaleType upper = ScaleType::f32;

  explicit PanelFloatFactors(const TileArguments& t)
      : scales_(t.panel + t.scales->scales.at + t.scales->segments_in(t.first_k) * kPanelColumns * scale_bytes(type)) {}

  void load(int64_t segment, Vector (&factors)[kPanelVectors]) const {
#pragma GCC unroll 2
    for (int j = 0; j < kPanelVectors; ++j) factors[j] = offset_of(segment, j);
  }
  Vector offset_of(int64_t segment, int j) const {
    return load_scale<type>(scales_ + (segment * kPanelColumns + j * kWidth) * scale_bytes(type), false);
  }

 private:
  const char* scales_;
};

inline void load_factor(const char* from, Words& factor) { factor = Words::load(from); }
inline void load_factor(const char* from, Vector& factor) {
  factor = Vector::load(reinterpret_cast<const float*>(from));
}
inline void store_factor(Words factor, char* to) { factor.store(to); }
inline void store_factor(Vector factor, char* to) { factor.store(reinterpret_cast<float*>(to)); }

// As unpack_factors() leaves those of the panel, behind codes of a byte in whole groups of k.
template <class InPanel, int group = 1>
class UnpackedFactors {
 public:
  using Factor = typename InPanel::Factor;
  static constexpr ScaleType upper = InPanel::upper;
  using Places = UnpackedScales<1, group>;

  explicit UnpackedFactors(const TileArguments& t)
      : factors_(t.w + Places::scales_at(t)), offsets_(reinterpret_cast<const float*>(t.w + Places::offsets_at(t))) {}
  void load(int64_t segment, Factor (&factors)[kPanelVectors]) const {
#pragma GCC unroll 2
    for (int j = 0; j < kPanelVectors; ++j) {
      const char* place = factors_ + 4 * (segment * kPanelColumns + j * kWidth);
      load_factor(place, factors[j]);
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
    typename Factors::Factor by[kPanelVectors];
    factors.load(s, by);
    for (int j = 0; j < kPanelVectors; ++j, to += 4 * kWidth, offsets += kWidth) {
      store_factor(by[j], to);
      factors.offset_of(s, j).store(offsets);
    }
  }
}

// The upper scales of a run of segments.
template <ScaleType type, FactorOffset offset>
class UpperScales {
 public:
  UpperScales(const TileArguments& t, const SegmentRuns& run)
      : unit_(t.scales->code_unit),
        scales_(first_of(t.scales->super_scales, t, run)),
        minima_(offset == FactorOffset::minimum ? first_of(t.scales->super_zeros, t, run) : nullptr) {}
  Vector scale(int j) const { return load(scales_, j) * Vector::broadcast(unit_); }
  Vector minimum(int j) const { return load(minima_, j); }

 private:
  static const char* first_of(const PanelLevel& level, const TileArguments& t, const SegmentRuns& run) {
    return t.panel + level.at + run.group * kPanelColumns * scale_bytes(type);
  }
  static Vector load(const char* scales, int j) {
    return load_scale<type>(scales + j * kWidth * scale_bytes(type), false);
  }

  float unit_;
  const char* scales_;
  const char* minima_;
};

// What a run's sums, times factors, are added up as: integers, or the numbers whose digits were multiplied.
template <int digits>
using FactorTotal = std::conditional_t<digits == 1, int32_t, float>;

// A row's total of some columns; totals in memory are [row][column].
inline Words total_of(const int32_t* totals, int row, int j) {
  return Words::load(reinterpret_cast<const char*>(totals + row * kPanelColumns + j * kWidth));
}
inline Vector total_of(const float* totals, int row, int j) {
  return Vector::load(totals + row * kPanelColumns + j * kWidth);
}
template <int rows>
inline Words total_of(const Words (&totals)[rows][kPanelVectors], int row, int j) {
  return totals[row][j];
}
// A total, less what codes with a bias have added to it: `moved` are the sums of x times factors.
template <int bias>
inline Vector unbiased(Words total, Vector moved) {
  // Integers below 2^24.
  if constexpr (bias != 0) total = total.minus(Words::integers(moved).shifted<std::countr_zero(unsigned{bias})>());
  return total.as_float();
}
template <int bias>
inline Vector unbiased(Vector total, Vector moved) {
  return bias == 0 ? total : Vector::fma(moved, Vector::broadcast(-bias), total);
}

// Adds the totals of `rows` of the tile's rows and of a run of segments to c, scaled by their upper scale.
template <FactorOffset offset, int bias, int rows, class Factors, class Totals>
[[gnu::always_inline]] inline void add_factor_totals(const TileArguments& t, int first_row, const Factors& factors,
                                                     const Totals& totals, const SegmentRuns& run) {
  const UpperScales<Factors::upper, offset> upper(t, run);
  constexpr int vectors = rows <= 6 ? kPanelVectors : 1;  // of columns at once, so that sums stay in registers
#pragma GCC unroll 2
  for (int begin = 0; begin < kPanelVectors; begin += vectors) {
    Vector moved[rows][vectors];
#pragma GCC unroll 16
    for (int r = 0; r < rows; ++r) {
#pragma GCC unroll 2
      for (int j = 0; j < vectors; ++j) moved[r][j] = Vector::zero();
    }
    const int64_t segments = offset == FactorOffset::none ? 0 : run.end - run.begin;
    const float* x_sums = segments == 0 ? nullptr : t.x_sums + run.begin * t.rows + first_row;
    for (int64_t s = run.begin; s < run.begin + segments; ++s, x_sums += t.rows) {
      Vector of_segment[vectors];
#pragma GCC unroll 2
      for (int j = 0; j < vectors; ++j) of_segment[j] = factors.offset_of(s, begin + j);
#pragma GCC unroll 16
      for (int r = 0; r < rows; ++r) {
#pragma GCC unroll 2
        for (int j = 0; j < vectors; ++j) {
          moved[r][j] = Vector::fma(of_segment[j], Vector::broadcast(x_sums[r]), moved[r][j]);
        }
      }
    }
#pragma GCC unroll 2
    for (int j = 0; j < vectors; ++j) {
      const Vector scale = upper.scale(begin + j);
#pragma GCC unroll 16
      for (int r = 0; r < rows; ++r) {
        float* const place = t.c + (first_row + r) * kPanelColumns + (begin + j) * kWidth;
        constexpr int taken_back = offset == FactorOffset::bias ? bias : 0;
        const Vector sum = unbiased<taken_back>(total_of(totals, r, begin + j), moved[r][j]);
        Vector total = Vector::fma(scale, sum, Vector::load(place));
        if constexpr (offset == FactorOffset::minimum) {
          total = Vector::fma(upper.minimum(begin + j), Vector::zero() - moved[r][j], total);
        }
        total.store(place);
      }
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
// The same of digits.
inline Vector as_float(Vector factor) { return factor; }
inline Vector as_float(Words factor) { return factor.as_float(); }
template <int rows, class Factor>
inline void add_products(const Words (&sums)[rows][kPanelVectors], const Factor (&factors)[kPanelVectors],
                         float* totals) {
  const Vector by[kPanelVectors] = {as_float(factors[0]), as_float(factors[1])};
#pragma GCC unroll 16
  for (int r = 0; r < rows; r += kDigits, totals += kPanelColumns) {
#pragma GCC unroll 2
    for (int j = 0; j < kPanelVectors; ++j) {
      const Vector sum = of_digits(sums[r][j].as_float(), sums[r + 1][j].as_float(), sums[r + 2][j].as_float());
      Vector::fma(by[j], sum, Vector::load(totals + j * kWidth)).store(totals + j * kWidth);
    }
  }
}

// What the sums of a run's segments begin with, [segment][row], if it takes off what the bias of codes adds to them:
// broadcasts from memory take no ports of products. Made for a whole run, as what was just stored is slow to read.
template <int bias, int rows>
class Biases {
 public:
  [[gnu::always_inline]] Biases(const TileArguments& t, int first_row, const SegmentRuns& run) : first_(run.begin) {
    if constexpr (bias == 0) return;
    const float* x_sums = t.x_sums + run.begin * t.rows + first_row;
    for (int64_t s = 0; s < run.end - run.begin; ++s, x_sums += t.rows) {
#pragma GCC unroll 2
      for (int first = 0; first < rows; first += kWidth) {
        const Vector sums = Vector::load_first(x_sums + first, rows - first, Vector::zero());
        Words::integers(sums * Vector::broadcast(-bias)).store(reinterpret_cast<char*>(words_[s] + first));
      }
    }
    asm volatile("" : : "r"(words_) : "memory");
  }
  [[gnu::always_inline]] void begin(int64_t segment, Words (&sums)[1][rows][kPanelVectors]) const {
    if constexpr (bias == 0) return clear(sums);
#pragma GCC unroll 8
    for (int r = 0; r < rows; ++r) sums[0][r][0] = sums[0][r][1] = Words::broadcast(words_[segment - first_][r]);
  }

 private:
  static constexpr int kMostSegments = bias == 0 ? 1 : 256 / kUnit;  // see takes_factors()
  static constexpr int kPlaces = (rows + kWidth - 1) / kWidth * kWidth;

  int64_t first_;
  alignas(64) int32_t words_[kMostSegments][kPlaces];
};

// Rows of x are rows of codes, or several digits each: rows first_row .. first_row + x_rows - 1 of a tile.
template <class Products, class Quads, class Factors, FactorOffset offset, template <int> class Rows, int digits,
          int x_rows, int tile_rows>
void multiply_factor_rows(const TileArguments& t, int first_row) {
  using TileRows = Rows<tile_rows * digits>;
  constexpr int rows = x_rows * digits;
  constexpr int64_t unit_bytes = kUnit / 8 * Quads::bits * kPanelColumns;
  constexpr bool begins_with_bias =
      offset == FactorOffset::bias && digits == 1 && rows <= kFewRows && !Products::multiplies_pairs;
  const Quads codes(*t.scales);
  const Factors factors(t);
  const int units = t.scales->segment / kUnit;
  const int64_t segments = t.scales->segments_in(t.k);
  PacedPrefetches prefetches(t);
  const CodeStream stream(t, segments * units * unit_bytes);
  const char* unit = t.w;
  const char* x = static_cast<const char*>(t.x) + first_row * digits * TileRows::row_bytes;
  int64_t k = 0;
  if (!t.accumulate) std::fill_n(t.c + first_row * kPanelColumns, x_rows * kPanelColumns, 0.0f);
  for (SegmentRuns run(t, t.scales->super_scales.segments); run.next();) {
    alignas(64) FactorTotal<digits> totals[x_rows * kPanelColumns] = {};
    const Biases<begins_with_bias ? Quads::bias : 0, rows> biases(t, first_row, run);
    Words sums[1][rows][kPanelVectors];
    if constexpr (Products::multiplies_pairs) clear(sums);
    for (int64_t s = run.begin; s < run.end; ++s) {
      if constexpr (!Products::multiplies_pairs) biases.begin(s, sums);
      if (k % kPrefetchedK == 0) prefetches.round();
      const int64_t ahead = stream.ahead(unit - t.w);
      typename Factors::Factor by[kPanelVectors];
      factors.load(s, by);
      for (int u = 0; u < units; ++u, unit += unit_bytes, x = TileRows::next_unit(x, k += kUnit)) {
        if constexpr (Products::multiplies_pairs) {
          multiply_quads<Products, TileRows>(codes, unit, ahead, x, sums, by);
        } else {
          multiply_quads<Products, TileRows>(codes, unit, ahead, x, sums);
        }
      }
      if constexpr (!Products::multiplies_pairs) add_products(sums[0], by, totals);
    }
    if constexpr (Products::multiplies_pairs) {
      static_assert(digits == 1);
#pragma GCC unroll 16
      for (int r = 0; r < rows; ++r) {
#pragma GCC unroll 2
        for (int j = 0; j < kPanelVectors; ++j) {
          sums[0][r][j].store(reinterpret_cast<char*>(totals + r * kPanelColumns + j * kWidth));
        }
      }
    }
    constexpr FactorOffset left = begins_with_bias ? FactorOffset::none : offset;
    add_factor_totals<left, Quads::bias, x_rows>(t, first_row, factors, totals, run);
  }
}

template <class Products, class Quads, class Factors, FactorOffset offset, template <int> class Rows, int digits,
          int x_rows, int tile_rows = x_rows>
void factor_rows(const TileArguments& t, int first_row) {
  if constexpr (kCanPassCaches<Quads, x_rows>) {
    if (t.past_caches > 0) {
      return multiply_factor_rows<Products, PastCaches<Quads>, Factors, offset, Rows, digits, x_rows, tile_rows>(
          t, first_row);
    }
  }
  multiply_factor_rows<Products, Quads, Factors, offset, Rows, digits, x_rows, tile_rows>(t, first_row);
}

template <class Products, class Quads, class Factors, FactorOffset offset, template <int> class Rows, int digits,
          int x_rows>
void factor_tile(const TileArguments& t) {
  factor_rows<Products, Quads, Factors, offset, Rows, digits, x_rows>(t, 0);
}

template <class Products, class Quads, class Factors, FactorOffset offset, template <int> class Rows, int digits = 1,
          int... row>
constexpr TileFunctions factor_tiles(std::integer_sequence<int, row...>) {
  return {nullptr, &factor_tile<Products, Quads, Factors, offset, Rows, digits, row + 1>...};
}

// See UnpackFunction.
template <class Quads, class Factors>
void unpack_bytes_and_factors(const TileArguments& t, char* unpacked) {
  unpack_all_quads<Quads>(t, unpacked);
  unpack_factors<Factors>(t, unpacked);
}

// Sums of rows of digits: of the numbers that they stand for.
template <class Products>
void sum_numbers(const void* tile, int64_t segments, int segment, int rows, float* sums) {
  const int64_t segment_bytes = int64_t{segment} * rows * kDigits;
  const char* from = static_cast<const char*>(tile);
  float parts[kSegmentsAtOnce * kTileRows];
  for (int64_t first = 0; first < segments; first += kSegmentsAtOnce, from += kSegmentsAtOnce * segment_bytes) {
    const int64_t count = std::min<int64_t>(kSegmentsAtOnce, segments - first);
    sum_quads<Products>(from, count, segment, rows * kDigits, parts);
    for (const float* part = parts; part != parts + count * rows * kDigits; part += kDigits) {
      *sums++ = of_digits(part[0], part[1], part[2]);
    }
  }
}
