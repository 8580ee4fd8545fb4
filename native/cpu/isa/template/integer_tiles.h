// Tiles of matrix products of 8-bit integer rows with the codes of quantised weights. See kernels.h here, and
// cpu/gemm/panel_codes.h for the panels and the order of k within words.
//
// A word holds four k of a column as bytes: their codes plus a bias that makes them unsigned, which is taken back with
// the sum of x. A group's products are summed exactly in 32 bits; the sum, scaled, is added to the row's sums, group
// after group. So the bits are the same whatever multiplies the bytes, and in any order.
//
// An instruction set has Products: add<small>(sum, w, x) adds four products of bytes to the words of a sum. `small`
// ones of w are unsigned and below 64; others are signed if Products::signed_bytes, else unsigned.

// How codes become bytes: load<quad>() reads k 4 * quad .. 4 * quad + 3 of a unit, for both vectors of columns.

// Integers that fill the fields of words: codes of 2 or 4 bits.
template <int bits_>
struct FieldQuads {
  static constexpr int bits = bits_;
  static constexpr bool small = true;
  static constexpr int bias = 1 << (bits - 1);

  explicit FieldQuads(const PanelScales&) {}
  template <int quad>
  void load(const char* unit, Words (&w)[kPanelVectors]) const {
    constexpr int place = plane_bit(bits, 4 * quad);
    constexpr uint32_t mask = 0x01010101u * ((1u << bits) - 1u);
#pragma GCC unroll 2
    for (int j = 0; j < kPanelVectors; ++j) {
      const Words words = Words::load(unit + 4 * (place / 32 * kPanelColumns + j * kWidth));
      w[j] = words.shifted<-(place % 32)>().masked_and_flipped(mask, 0x01010101u * bias);
    }
  }
};

// Integers cut into two planes: codes of 3, 5 or 6 bits.
template <int bits_>
struct PlaneQuads : PlaneCodes<bits_> {
  static constexpr int bits = bits_;
  static constexpr bool small = true;
  static constexpr int bias = 1 << (bits - 1);

  using PlaneCodes<bits_>::PlaneCodes;
  template <int quad>
  void load(const char* unit, Words (&w)[kPanelVectors]) const {
    constexpr uint32_t mask = 0x01010101u * ((1u << bits) - 1u);
#pragma GCC unroll 2
    for (int j = 0; j < kPanelVectors; ++j) {
      w[j] = PlaneCodes<bits_>::template load<4 * quad>(unit, j).template shifted<bits - 8>().masked_and_flipped(
          mask, 0x01010101u * bias);
    }
  }
};

// Codes of a byte each.
template <bool signed_bytes>
struct ByteQuads {
  static constexpr int bits = 8;
  static constexpr bool small = false;
  static constexpr int bias = signed_bytes ? 0 : 128;

  explicit ByteQuads(const PanelScales&) {}
  template <int quad>
  void load(const char* unit, Words (&w)[kPanelVectors]) const {
    load_quads(unit + 4 * quad * kPanelColumns, w);
    if constexpr (signed_bytes) return;
#pragma GCC unroll 2
    for (int j = 0; j < kPanelVectors; ++j) w[j] = w[j].masked_and_flipped(~0u, 0x80808080u);
  }
};

// Codes of 4 bits that are looked up in a table of integers.
template <bool signed_bytes>
struct TableQuads {
  static constexpr int bits = 4;
  static constexpr bool small = false;
  static constexpr int bias = signed_bytes ? 0 : 128;

  explicit TableQuads(const PanelScales& scales) {
    for (int i = 0; i < 16; ++i) table[i] = static_cast<uint8_t>(static_cast<int>(scales.table[i]) + bias);
  }
  template <int quad>
  void load(const char* unit, Words (&w)[kPanelVectors]) const {
    constexpr int place = plane_bit(bits, 4 * quad);
#pragma GCC unroll 2
    for (int j = 0; j < kPanelVectors; ++j) {
      const Words words = Words::load(unit + 4 * (place / 32 * kPanelColumns + j * kWidth));
      w[j] = words.shifted<-(place % 32)>().masked_and_flipped(0x0f0f0f0fu, 0).bytes_of(table);
    }
  }

  alignas(16) uint8_t table[16];
};

// Where rows have their bytes: Arithmetic::i8_quads, and i8_tiles.
template <int rows>
struct QuadRows {
  static constexpr int quad_bytes = 4 * rows;  // from four k to the next
  static constexpr int row_bytes = 4;          // from a row to the next
  static const char* unit(const char* x, int64_t k) { return x + k * rows; }
};
template <int rows>
struct RegisterRows {
  static constexpr int quad_bytes = 4;
  static constexpr int row_bytes = 64;
  static const char* unit(const char* x, int64_t k) { return x + k / 64 * 64 * rows + k % 64; }
};

// Few rows would leave multipliers waiting for sums.
constexpr int integer_chains(int rows) { return rows <= 3 ? 2 : 1; }
template <int rows>
using IntegerSums = Words[integer_chains(rows)][rows][kPanelVectors];

template <int rows>
inline void clear(IntegerSums<rows>& sums) {
  for (auto& chain : sums) {
#pragma GCC unroll 16
    for (int r = 0; r < rows; ++r) chain[r][0] = chain[r][1] = Words::broadcast(0);
  }
}

template <class Products, class Quads, template <int> class Rows, int rows, int quad>
inline void multiply_quad(const Quads& codes, const char* unit, int64_t ahead, const char* x, IntegerSums<rows>& sums) {
  prefetch_part<Quads::bits, 4 * quad, 4 * quad + 4>(unit, ahead);
  Words w[kPanelVectors];
  codes.template load<quad>(unit, w);
  auto& chain = sums[quad % integer_chains(rows)];
#pragma GCC unroll 16
  for (int r = 0; r < rows; ++r) {
    int32_t four;
    std::memcpy(&four, x + quad * Rows<rows>::quad_bytes + r * Rows<rows>::row_bytes, sizeof four);
    const Words value = Words::broadcast(four);
#pragma GCC unroll 2
    for (int j = 0; j < kPanelVectors; ++j) {
      chain[r][j] = Products::template add<Quads::small>(chain[r][j], w[j], value);
    }
  }
}

template <class Products, class Quads, template <int> class Rows, int rows>
inline void multiply_quads(const Quads& codes, const char* unit, int64_t ahead, const char* x,
                           IntegerSums<rows>& sums) {
  static_assert(kUnit == 16);
  multiply_quad<Products, Quads, Rows, rows, 0>(codes, unit, ahead, x, sums);
  multiply_quad<Products, Quads, Rows, rows, 1>(codes, unit, ahead, x, sums);
  multiply_quad<Products, Quads, Rows, rows, 2>(codes, unit, ahead, x, sums);
  multiply_quad<Products, Quads, Rows, rows, 3>(codes, unit, ahead, x, sums);
}

// Adds a group's scaled sums to c; x_sums are those of its `segments` segments. offset may be null.
template <int rows>
inline void add_group(const IntegerSums<rows>& sums, float bias, const float* scale, const float* offset,
                      const float* x_sums, int64_t segments, float* c) {
  float totals[rows] = {};
  for (int64_t s = 0; s < segments; ++s, x_sums += rows) {
    for (int r = 0; r < rows; ++r) totals[r] += x_sums[r];
  }
#pragma GCC unroll 16
  for (int r = 0; r < rows; ++r) {
    const Words above = Words::integers(Vector::broadcast(totals[r] * bias));
#pragma GCC unroll 2
    for (int j = 0; j < kPanelVectors; ++j) {
      Words sum = sums[0][r][j];
      if constexpr (integer_chains(rows) == 2) sum = sum.plus(sums[1][r][j]);
      float* place = c + r * kPanelColumns + j * kWidth;
      Vector total = Vector::fma(Vector::load(scale + j * kWidth), sum.minus(above).as_float(), Vector::load(place));
      if (offset != nullptr) {
        total = Vector::fma(Vector::load(offset + j * kWidth), Vector::broadcast(totals[r]), total);
      }
      total.store(place);
    }
  }
}

template <class Products, class Quads, template <int> class Rows, int rows>
void integer_tile(const TileArguments& t) {
  constexpr int64_t unit_bytes = kUnit / 8 * Quads::bits * kPanelColumns;
  const Quads codes(*t.scales);
  const int segment = t.scales->segment;
  const int64_t first = t.first_k / segment, segments = t.k / segment;
  const int64_t rounds = (segments + kSegmentsAtOnce - 1) / kSegmentsAtOnce;
  const int64_t lines_per_round = rounds > 0 ? (t.prefetch_lines + rounds - 1) / rounds : 0;
  const char* prefetch = t.prefetch;
  const CodeStream stream(t, segments * (segment / kUnit) * unit_bytes);
  const char* unit = t.w;
  const char* x = static_cast<const char*>(t.x);
  int64_t k = 0;
  alignas(64) SegmentValues scale, offset;
  if (!t.accumulate) std::fill_n(t.c, rows * kPanelColumns, 0.0f);
  const int64_t group = t.scales->scales.segments;
  const int64_t block = t.block_k / segment;
  const auto left_from = [&](int64_t at) {
    return std::min(group - (first + at) % group, block - (first + at) % block);
  };
  int64_t left = left_from(0), begin = 0;
  IntegerSums<rows> sums;
  clear<rows>(sums);
  for (int64_t done = 0; done < segments; done += kSegmentsAtOnce) {
    for (int64_t line = 0; line < lines_per_round; ++line, prefetch += 64) __builtin_prefetch(prefetch, 0, 2);
    const int count = static_cast<int>(std::min<int64_t>(kSegmentsAtOnce, segments - done));
    load_scales(*t.scales, t.panel, first + done, count, scale, offset);
    for (int s = 0; s < count; ++s) {
      const int64_t ahead = stream.ahead(unit - t.w);
      for (int u = 0; u < segment / kUnit; ++u, unit += unit_bytes, k += kUnit) {
        multiply_quads<Products, Quads, Rows, rows>(codes, unit, ahead, Rows<rows>::unit(x, k), sums);
      }
      const int64_t end = done + s + 1;
      if (--left > 0 && end < segments) continue;
      add_group<rows>(sums, Quads::bias, scale + s * kPanelColumns,
                      t.scales->have_offset() ? offset + s * kPanelColumns : nullptr, t.x_sums + begin * rows,
                      end - begin, t.c);
      clear<rows>(sums);
      left = left_from(end);
      begin = end;
    }
  }
}

// See SumFunction: the sums of bytes, whose rows are the lanes of vectors.
template <class Products>
void sum_quads(const void* tile, int64_t segments, int segment, int rows, float* sums) {
  const char* x = static_cast<const char*>(tile);
  const int64_t step = 4 * int64_t{rows};
  int64_t left = segments * (segment / 4) * step;
  const Words ones = Words::broadcast(0x01010101);
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
        sum = Products::template add<true>(sum, ones, Words::load(whole ? from : last));
      }
      alignas(64) float lanes[kWidth];
      sum.as_float().store(lanes);
      std::copy_n(lanes, std::min(kWidth, rows - first), sums + first);
    }
    x += segment / 4 * step;
    left -= segment / 4 * step;
  }
}

template <class Products, class Quads, template <int> class Rows, int... row>
constexpr std::array<TileFunction, kMaxTileRows + 1> integer_tiles(std::integer_sequence<int, row...>) {
  return {nullptr, &integer_tile<Products, Quads, Rows, row + 1>...};
}

// A row for integer codes of x.
template <class Products, class Quads>
constexpr GemmKernel integer_kernel(const char* name, bool (*takes)(const WeightFormat&), const char* formats) {
  return {.name = name,
          .codes = TokenFormat::int8,
          .arithmetic = Arithmetic::i8_quads,
          .takes = takes,
          .formats = formats,
          .panels = coded_panels,
          .numbers = kIntegerNumbers,
          .max_rows = kTileRows,
          .tile = integer_tiles<Products, Quads, QuadRows>(std::make_integer_sequence<int, kTileRows>()),
          .sum_segments = sum_quads<Products>,
          .biased_rows = kTileRows};
}

template <class Products>
constexpr std::array kIntegerGemm = {
    integer_kernel<Products, FieldQuads<2>>("i2_int8", takes_integers<2>, "i2, u2"),
    integer_kernel<Products, PlaneQuads<3>>("i3_int8", takes_integers<3>, "i3, u3"),
    integer_kernel<Products, FieldQuads<4>>("i4_int8", takes_integers<4>, "i4, u4"),
    integer_kernel<Products, PlaneQuads<5>>("i5_int8", takes_integers<5>, "i5, u5"),
    integer_kernel<Products, PlaneQuads<6>>("i6_int8", takes_integers<6>, "i6, u6"),
    integer_kernel<Products, ByteQuads<Products::signed_bytes>>("i8_int8", takes_integers<8>, "i8, u8"),
    integer_kernel<Products, TableQuads<Products::signed_bytes>>("integer_table_int8", takes_integer_table,
                                                                 "e2m1, iq4"),
};

// Bytes that are multiplied as they are.
struct PlainQuads {
  static constexpr int bits = 8;
  static constexpr bool small = true;

  template <int quad>
  void load(const char* unit, Words (&w)[kPanelVectors]) const {
#pragma GCC unroll 2
    for (int j = 0; j < kPanelVectors; ++j) w[j] = Words::load(unit + 4 * (quad * kPanelColumns + j * kWidth));
  }
};

// As peak() of ceilings.h.
template <class Products, int rows>
void integer_peak(int64_t iterations) {
  alignas(64) static constexpr char kX[kUnit * rows] = {};
  alignas(64) static constexpr char kW[kUnit * kPanelColumns] = {};
  const char* volatile x = kX;
  const char* volatile w = kW;
  IntegerSums<rows> sums;
  clear<rows>(sums);
  for (int64_t i = 0; i < iterations; ++i) multiply_quads<Products, PlainQuads, QuadRows, rows>({}, w, 0, x, sums);
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
