// Tiles of matrix products of 8-bit integer rows with the codes of quantised weights. See kernels.h here, and
// cpu/gemm/panel_codes.h for the panels and the order of k within words.
//
// A word holds four k of a column as bytes: their codes plus a bias that makes them unsigned, which is taken back with
// the sum of x. A group's products are summed exactly in 32 bits; the sum, scaled, is added to the row's sums, group
// after group. So the bits are the same whatever multiplies the bytes, and in any order.
//
// An instruction set has Products: add<largest>(sum, w, x) adds the products of n words of four bytes to the words of a
// sum, for n up to at_once<largest>. Bytes of w below 64 are unsigned, and none exceeds `largest`; others are signed if
// Products::signed_bytes, else unsigned.

// Where rows have their bytes: Arithmetic::i8_quads, and i8_tiles. The next unit is the one of k.
template <int rows>
struct QuadRows {
  static constexpr int quad_bytes = 4 * rows;  // from four k to the next
  static constexpr int row_bytes = 4;          // from a row to the next
  static const char* next_unit(const char* x, int64_t) { return x + kUnit * rows; }
};
template <int rows>
struct RegisterRows {
  static constexpr int quad_bytes = 4;
  static constexpr int row_bytes = 64;
  static const char* next_unit(const char* x, int64_t k) { return x + kUnit + (k % 64 == 0 ? 64 * (rows - 1) : 0); }
};

// Quads of a unit that Products adds at once.
template <class Products, class Quads>
constexpr int kQuadsAtOnce = std::min(kUnit / 4, Products::template at_once<Quads::largest>);

// Few rows would leave multipliers waiting for sums, unless a unit is added at once.
constexpr int integer_chains(int rows, int quads_at_once) { return rows <= 3 && quads_at_once < kUnit / 4 ? 2 : 1; }
template <class Products, class Quads, int rows>
using IntegerSums = Words[integer_chains(rows, kQuadsAtOnce<Products, Quads>)][rows][kPanelVectors];

template <int chains, int rows>
inline void clear(Words (&sums)[chains][rows][kPanelVectors]) {
  for (auto& chain : sums) {
#pragma GCC unroll 16
    for (int r = 0; r < rows; ++r) chain[r][0] = chain[r][1] = Words::broadcast(0);
  }
}

// Four k of a row.
template <class Rows>
inline Words load_row(const char* x, int quad, int row) {
  int32_t four;
  std::memcpy(&four, x + quad * Rows::quad_bytes + row * Rows::row_bytes, sizeof four);
  return Words::broadcast(four);
}

// Reads the lines of a unit whose codes are cut into planes, in order: memory answers up to twice as fast as where the
// upper plane is read first.
template <class Quads>
[[gnu::always_inline]] inline void read_in_order(const auto& unit) {
  if constexpr (upper_bits(Quads::bits) > 0 && !requires { Quads::unpacked; }) {
    for (int at = 0; at < kUnit / 8 * Quads::bits * kPanelColumns; at += 64) read_now(Words::load(unit + at).v);
  }
}
// Tiles of more rows do not wait for memory.
constexpr int kFewRows = 8;

// Quads of a unit from `first` on. There may be factors for the vectors of columns, by which products are multiplied.
template <class Products, class Rows, int first, class Quads, class Unit, int chains, int rows, int... i,
          class... Factors>
inline void multiply_run(const Quads& codes, const Unit& unit, const char* next, const char* x,
                         Words (&sums)[chains][rows][kPanelVectors], std::integer_sequence<int, i...>,
                         const Factors&... factors) {
  constexpr int count = sizeof...(i);
  prefetch_part<Quads, 1, kUnit / (4 * count)>(next, first / count);
  if constexpr (first == 0 && rows <= kFewRows) read_in_order<Quads>(unit);
  Words loaded[count][kPanelVectors];
  (codes.template load<first + i>(unit, loaded[i]), ...);
  auto& chain = sums[first / count % chains];
  if constexpr (requires { Products::multiplies_by_lanes; }) {
    static_assert(count == 1 && Rows::row_bytes == 4);
    return Products::template multiply_by_lanes<0, rows>(x + first * Rows::quad_bytes, loaded[0], chain);
  }
#pragma GCC unroll 16
  for (int r = 0; r < rows; ++r) {
    const Words values[] = {load_row<Rows>(x, first + i, r)...};
#pragma GCC unroll 2
    for (int j = 0; j < kPanelVectors; ++j) {
      const Words w[] = {loaded[i][j]...};
      chain[r][j] = Products::template add<Quads::largest>(chain[r][j], w, values, factors[j]...);
    }
  }
}

template <class Products, class Rows, class Quads, class Unit, int chains, int rows, int... run, class... Factors>
inline void multiply_runs(const Quads& codes, const Unit& unit, const char* next, const char* x,
                          Words (&sums)[chains][rows][kPanelVectors], std::integer_sequence<int, run...>,
                          const Factors&... factors) {
  constexpr int count = kQuadsAtOnce<Products, Quads>;
  (multiply_run<Products, Rows, run * count>(codes, unit, next, x, sums, std::make_integer_sequence<int, count>(),
                                             factors...),
   ...);
}

template <class Products, class Rows, class Quads, int chains, int rows, class... Factors>
inline void multiply_quads(const Quads& codes, const char* unit, int64_t ahead, const char* x,
                           Words (&sums)[chains][rows][kPanelVectors], const Factors&... factors) {
  constexpr int quads = kUnit / 4, count = kQuadsAtOnce<Products, Quads>;
  static_assert(quads % count == 0);
  constexpr auto runs = std::make_integer_sequence<int, quads / count>();
  const char* const next = unit + ahead;
  if constexpr (rows == 1 && requires { typename Quads::UnitWords; }) {
    multiply_runs<Products, Rows>(codes, codes.read(unit), next, x, sums, runs, factors...);
  } else {
    multiply_runs<Products, Rows>(codes, unit, next, x, sums, runs, factors...);
  }
}

// The sums of x over a run of segments, for some rows of a tile of x_rows, and times the codes' bias, which sums of
// products have to lose. Rows lose it at the end of a run, as they would wait for it at the beginning. Digits, which
// have three sums for each result, begin with it.
template <int rows, int digits, int bias, int x_rows = rows>
class RowTotals {
 public:
  RowTotals(const float* x_sums, const SegmentRuns& run) {
#pragma GCC unroll 4
    for (int first = 0; first < rows; first += kWidth) {
      Vector total = Vector::zero();
      for (int64_t s = run.begin; s < run.end; ++s) {
        total = total + Vector::load_first(x_sums + s * x_rows + first, rows - first, Vector::zero());
      }
      total.store(totals_ + first);
      if constexpr (bias == 0) continue;
      Words::integers(total * Vector::broadcast(-bias)).store(reinterpret_cast<char*>(biases_ + first));
    }
    // Has them broadcast from memory. Compilers would take them out of the vectors that were stored, with instructions
    // of the ports that products need. For the digits of two rows that is as well: they wait for each other.
    if constexpr (at_end || rows > 6) asm volatile("" : : "r"(totals_), "r"(biases_) : "memory");
  }
  Vector operator[](int row) const { return Vector::broadcast(totals_[row]); }
  template <int chains>
  void begin(Words (&sums)[chains][rows][kPanelVectors]) const {
    clear(sums);
    if constexpr (bias == 0 || at_end) return;
#pragma GCC unroll 16
    for (int r = 0; r < rows; ++r) sums[0][r][0] = sums[0][r][1] = Words::broadcast(biases_[r]);
  }
  template <int row>
  Words end(Words sum) const {
    return bias == 0 || !at_end ? sum : sum.plus(Words::broadcast(biases_[row]));
  }

 private:
  static constexpr bool at_end = digits == 1;
  static constexpr int kPlaces = (rows + kWidth - 1) / kWidth * kWidth;
  alignas(64) float totals_[kPlaces];
  alignas(64) int32_t biases_[kPlaces];
};

// The same for few rows, which begin with the bias. Their sums of x are broadcast from where they are.
template <int rows, int bias, int x_rows = rows>
class FewRowTotals {
 public:
  FewRowTotals(const float* x_sums, const SegmentRuns& run)
      : sums_(x_sums + run.begin * x_rows), segments_(run.end - run.begin) {}
  Vector operator[](int row) const {
    Vector total = Vector::broadcast(sums_[row]);
    if (segments_ > 1) [[unlikely]] {
#pragma GCC unroll 1
      for (int64_t s = 1; s < segments_; ++s) total = total + Vector::broadcast(sums_[s * x_rows + row]);
    }
    return total;
  }
  template <int chains>
  void begin(Words (&sums)[chains][rows][kPanelVectors]) const {
    clear(sums);
    if constexpr (bias != 0) set_biases(sums[0], std::make_integer_sequence<int, rows>());
  }
  template <int row>
  Words end(Words sum) const {
    return sum;
  }

 private:
  template <int... row>
  void set_biases(Words (&sums)[rows][kPanelVectors], std::integer_sequence<int, row...>) const {
    ((sums[row][0] = sums[row][1] = Words::integers((*this)[row] * Vector::broadcast(-bias))), ...);
  }

  const float* sums_;
  int64_t segments_;
};

// The number that has three digits.
inline Vector of_digits(Vector high, Vector middle, Vector low) {
  const Vector part = Vector::broadcast(0x1p-8f);
  return Vector::fma(Vector::fma(low, part, middle), part, high);
}
inline float of_digits(float high, float middle, float low) {
  return std::fma(std::fma(low, 0x1p-8f, middle), 0x1p-8f, high);
}

template <int row, int chains, int rows, class Totals>
inline Vector sum_of(const Words (&sums)[chains][rows][kPanelVectors], const Totals& totals, int j) {
  Words sum = sums[0][row][j];
  if constexpr (chains == 2) sum = sum.plus(sums[1][row][j]);
  return totals.template end<row>(sum).as_float();
}

// Adds the scaled sums of a run to row `r` of the results, which has `digits` rows of sums.
template <bool has_offset, int digits, int r, int chains, int sum_rows, class Totals, class TileResults>
[[gnu::always_inline]] inline void add_row(const Words (&sums)[chains][sum_rows][kPanelVectors], const Totals& totals,
                                           const Vector (&scales)[kPanelVectors], const float* offset,
                                           TileResults& results) {
  constexpr int first = r * digits;
#pragma GCC unroll 2
  for (int j = 0; j < kPanelVectors; ++j) {
    Vector sum = sum_of<first>(sums, totals, j);
    if constexpr (digits == 3) {
      sum = of_digits(sum, sum_of<first + 1>(sums, totals, j), sum_of<first + 2>(sums, totals, j));
    }
    Vector total = Vector::fma(scales[j], sum, results.get(r, j));
    if constexpr (has_offset) {
      Vector x_sum = totals[first];
      if constexpr (digits == 3) x_sum = of_digits(x_sum, totals[first + 1], totals[first + 2]);
      total = Vector::fma(Vector::load(offset + j * kWidth), x_sum, total);
    }
    results.set(r, j, total);
  }
  // Row after row: sorted by kind of instruction, more of them would wait than a core looks ahead.
  asm volatile("" : : : "memory");
}

// The same to all rows. One by one: in a loop, compilers keep the sums in memory.
template <bool has_offset, int digits, int chains, int sum_rows, class Totals, class TileResults, int... r>
[[gnu::always_inline]] inline void add_run(const Words (&sums)[chains][sum_rows][kPanelVectors], const Totals& totals,
                                           const Vector (&scales)[kPanelVectors], const float* offset,
                                           TileResults& results, std::integer_sequence<int, r...>) {
  (add_row<has_offset, digits, r>(sums, totals, scales, offset, results), ...);
}

// Rows of x are rows of codes, or several digits each: rows first_row .. first_row + x_rows - 1 of a tile.
template <class Products, class Quads, class Scales, template <int> class Rows, int digits, int x_rows, int tile_rows>
void multiply_integer_rows(const TileArguments& t, int first_row) {
  using TileRows = Rows<tile_rows * digits>;
  constexpr int rows = x_rows * digits;
  using Totals = std::conditional_t<rows <= 3, FewRowTotals<rows, Quads::bias, tile_rows * digits>,
                                    RowTotals<rows, digits, Quads::bias, tile_rows * digits>>;
  constexpr int64_t unit_bytes = kUnit / 8 * Quads::bits * kPanelColumns;
  const Quads codes(*t.scales);
  Scales scales(t);
  const bool has_offset = t.scales->have_offset();
  const int units = t.scales->segment / kUnit;
  const int64_t segments = t.scales->segments_in(t.k);
  PacedPrefetches prefetches(t);
  const CodeStream stream(t, segments * units * unit_bytes);
  const char* unit = t.w;
  const char* x = static_cast<const char*>(t.x) + first_row * digits * TileRows::row_bytes;
  int64_t k = 0;
  Results<x_rows> results(t, first_row);
  for (SegmentRuns run(t, t.scales->scales.segments); run.next();) {
    const Totals totals(t.x_sums + first_row * digits, run);
    IntegerSums<Products, Quads, rows> sums;
    totals.begin(sums);
    const char* end = unit + (run.end - run.begin) * units * unit_bytes;
    do {
      prefetches.unit();
      multiply_quads<Products, TileRows>(codes, unit, stream.ahead(unit - t.w), x, sums);
      unit += unit_bytes;
      x = TileRows::next_unit(x, k += kUnit);
    } while (unit != end);
    Vector by[kPanelVectors];
    scales.load(run, by);
    constexpr auto all_rows = std::make_integer_sequence<int, x_rows>();
    has_offset ? add_run<true, digits>(sums, totals, by, scales.offsets(run), results, all_rows)
               : add_run<false, digits>(sums, totals, by, nullptr, results, all_rows);
  }
  results.finish();
}

template <class Products, class Quads, class Scales, template <int> class Rows, int digits, int x_rows,
          int tile_rows = x_rows>
void integer_rows(const TileArguments& t, int first_row) {
  if constexpr (kCanPassCaches<Quads, x_rows>) {
    if (t.past_caches > 0) {
      return multiply_integer_rows<Products, PastCaches<Quads>, Scales, Rows, digits, x_rows, tile_rows>(t, first_row);
    }
  }
  multiply_integer_rows<Products, Quads, Scales, Rows, digits, x_rows, tile_rows>(t, first_row);
}

template <class Products, class Quads, class Scales, template <int> class Rows, int digits, int x_rows>
void integer_tile(const TileArguments& t) {
  integer_rows<Products, Quads, Scales, Rows, digits, x_rows>(t, 0);
}

// See SumFunction: the sums of bytes, of as few rows as would leave most lanes of sum_quads() empty.
template <int rows, int segment>
inline void sum_few_rows(const int8_t* x, int64_t segments, float* sums) {
  for (int64_t s = 0; s < segments; ++s, x += segment * rows, sums += rows) {
    int32_t of_rows[rows] = {};
    for (int q = 0; q < segment / 4; ++q) {
      for (int r = 0; r < rows; ++r) {
        for (int k = 0; k < 4; ++k) of_rows[r] += x[(q * rows + r) * 4 + k];
      }
    }
    for (int r = 0; r < rows; ++r) sums[r] = static_cast<float>(of_rows[r]);
  }
}
template <int rows>
inline void sum_few_rows(const void* tile, int64_t segments, int segment, float* sums) {
  const auto* x = static_cast<const int8_t*>(tile);
  segment == 32 ? sum_few_rows<rows, 32>(x, segments, sums) : sum_few_rows<rows, 16>(x, segments, sums);
}

// See SumFunction: those of more rows, which are the lanes of vectors.
template <class Products>
void sum_quads(const void* tile, int64_t segments, int segment, int rows, float* sums) {
  const char* x = static_cast<const char*>(tile);
  if (rows == 1) return sum_few_rows<1>(tile, segments, segment, sums);
  if (rows == 2) return sum_few_rows<2>(tile, segments, segment, sums);
  const int64_t step = 4 * int64_t{rows};
  int64_t left = segments * (segment / 4) * step;
  const Words ones[] = {Words::broadcast(0x01010101)};
  for (int64_t s = 0; s < segments; ++s, sums += rows) {
    for (int first = 0; first < rows; first += kWidth) {
      Words sum = Words::broadcast(0);
      const char* from = x + 4 * first;
      for (int q = 0; q < segment / 4; ++q, from += step) {
        // Whole vectors may reach beyond the tile's end.
        alignas(64) char last[4 * kWidth] = {};
        const int64_t present = left - (from - x);
        const bool whole = present >= int64_t{sizeof last};
        if (!whole) std::memcpy(last, from, static_cast<size_t>(present));
        const Words values[] = {Words::load(whole ? from : last)};
        sum = Products::template add<1>(sum, ones, values);
      }
      alignas(64) float lanes[kWidth];
      sum.as_float().store(lanes);
      std::copy_n(lanes, std::min(kWidth, rows - first), sums + first);
    }
    x += segment / 4 * step;
    left -= segment / 4 * step;
  }
}

template <class Products, class Quads, class Scales, template <int> class Rows, int digits = 1, int... row>
constexpr TileFunctions integer_tiles(std::integer_sequence<int, row...>) {
  return {nullptr, &integer_tile<Products, Quads, Scales, Rows, digits, row + 1>...};
}

template <class Quads, int... quad>
inline void unpack_quads(const Quads& codes, const char* unit, char* target, std::integer_sequence<int, quad...>) {
  Words w[kUnit / 4][kPanelVectors];
  (codes.template load<quad>(unit, w[quad]), ...);
#pragma GCC unroll 4
  for (int q = 0; q < kUnit / 4; ++q) {
#pragma GCC unroll 2
    for (int j = 0; j < kPanelVectors; ++j) w[q][j].store(target + 4 * (q * kPanelColumns + j * kWidth));
  }
}

template <class Quads>
void unpack_all_quads(const TileArguments& t, char* unpacked) {
  const Quads codes(*t.scales);
  unpack_steps<1>(t, kUnit, unpacked, [&](int64_t k, char* target) {
    unpack_quads(codes, t.w + k / 8 * Quads::bits * kPanelColumns, target,
                 std::make_integer_sequence<int, kUnit / 4>());
  });
}

// See UnpackFunction.
template <class Quads>
void unpack_bytes(const TileArguments& t, char* unpacked) {
  unpack_all_quads<Quads>(t, unpacked);
  unpack_scales<UnpackedScales<1>>(t, unpacked);
}

// See SumFunction.
template <class Products>
void sum_digit_quads(const void* tile, int64_t segments, int segment, int rows, float* sums) {
  sum_quads<Products>(tile, segments, segment, rows * kDigits, sums);
}

// As peak() of ceilings.h, of codes of 4 bits: the fastest products of bytes.
template <class Products, int rows>
void integer_peak(int64_t iterations) {
  alignas(64) static constexpr char kX[kUnit * rows] = {};
  alignas(64) static constexpr char kW[kUnit * kPanelColumns] = {};
  const char* volatile x = kX;
  const char* volatile w = kW;
  using Quads = PlainQuads<15, 8>;
  const Quads codes(PanelScales{});
  IntegerSums<Products, Quads, rows> sums;
  clear(sums);
  for (int64_t i = 0; i < iterations; ++i) multiply_quads<Products, QuadRows<rows>>(codes, w, 0, x, sums);
  alignas(64) float sink[kWidth];
  Words total = Words::broadcast(0);
#pragma GCC unroll 16
  for (int r = 0; r < rows; ++r) total = total.plus(sums[0][r][0]).plus(sums[0][r][1]);
  total.as_float().store(sink);
  [[maybe_unused]] volatile float kept = sink[0];
}

template <class Products>
constexpr PeakLoop integer_peak_loop() {
  return {&integer_peak<Products, kTileRows>, 2.0 * kUnit * kTileRows * kPanelColumns};
}
