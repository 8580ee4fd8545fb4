// Products of 8-bit integer rows with the codes of quantised weights in tile registers. See shapes.h here.
//
// A panel's codes are unpacked to signed bytes once for all tiles, by the classes that vectors read them with
// (integer_tiles.h), whose words are the rows of registers. A group's products are summed exactly in 32 bits and then
// scaled as vectors do it, so the bits are those of every instruction set: a few rows, for which memory is too slow
// anyway, are left to vectors, which need no unpacking.

constexpr int kVectorRows = 8;

// Bytes of k in a register: a group's, if 64 do not divide it.
constexpr int kIntegerSteps[] = {64, 32, 16};
constexpr std::array<ShapesByRows, 3> kIntegerShapes = {shapes_by_rows(64), shapes_by_rows(32), shapes_by_rows(16)};

template <class Quads, int... quad>
inline void unpack_unit(const Quads& codes, const char* unit, int64_t ahead, char* rows,
                        std::integer_sequence<int, quad...>) {
  const auto unpack_quad = [&]<int q>() {
    prefetch_part<Quads::bits, 4 * q, 4 * q + 4>(unit, ahead);
    Words w[kPanelVectors];
    codes.template load<q>(unit, w);
#pragma GCC unroll 2
    for (int j = 0; j < kPanelVectors; ++j) {
      const Words signed_bytes = Quads::bias == 0 ? w[j] : w[j].bytes_lowered(Quads::bias);
      signed_bytes.store(rows + q * kWeightStride + 4 * j * kWidth);
    }
  };
  (unpack_quad.template operator()<quad>(), ...);
}

// Rows of registers, [k / 4][column][k % 4], up to a whole number of registers.
template <class Quads>
void unpack_codes(const TileArguments& t, char* rows) {
  constexpr int64_t unit_bytes = kUnit / 8 * Quads::bits * kPanelColumns;
  constexpr int64_t row_bytes = kUnit / 4 * kWeightStride;
  const Quads codes(*t.scales);
  const int64_t units = t.k / kUnit;
  const CodeStream stream(t, units * unit_bytes);
  for (int64_t u = 0; u < units; ++u) {
    unpack_unit(codes, t.w + u * unit_bytes, stream.ahead(u * unit_bytes), rows + u * row_bytes,
                std::make_integer_sequence<int, kUnit / 4>());
  }
  constexpr int64_t kUnits = kTileRegisterBytes / kUnit;
  const int64_t missing = (kUnits - units % kUnits) % kUnits;
  std::memset(rows + units * row_bytes, 0, static_cast<size_t>(missing * row_bytes));
}

// Adds a group's scaled sums to c, or to zeros, as add_group() of integer_tiles.h. offset may be null.
inline void add_scaled(const int32_t* sums, int rows, const float* scale, const float* offset, const float* x_sums,
                       int64_t segments, bool accumulate, float* c) {
  alignas(64) float totals[kMaxTileRows] = {};
  for (int64_t s = 0; offset != nullptr && s < segments; ++s, x_sums += rows) {
    for (int r = 0; r < rows; ++r) totals[r] += x_sums[r];
  }
  for (int r = 0; r < rows; ++r) {
#pragma GCC unroll 2
    for (int j = 0; j < kPanelVectors; ++j) {
      const int64_t at = r * kPanelColumns + j * kWidth;
      const Vector sum = Words::load(reinterpret_cast<const char*>(sums + at)).as_float();
      const Vector before = accumulate ? Vector::load(c + at) : Vector::zero();
      Vector total = Vector::fma(Vector::load(scale + j * kWidth), sum, before);
      if (offset != nullptr) {
        total = Vector::fma(Vector::load(offset + j * kWidth), Vector::broadcast(totals[r]), total);
      }
      total.store(c + at);
    }
  }
}

template <class Tiles, bool two>
void register_integer_tile(const TileArguments& t) {
  const int segment = t.scales->segment;
  const int64_t first = t.first_k / segment, segments = t.k / segment, group = t.scales->scales.segments;
  // The last group may be shorter: zeros follow it.
  const bool whole_registers = group * segment % kTileRegisterBytes == 0 || first + segments <= group;
  const int shape = whole_registers ? 0 : segment == 32 ? 1 : 2;
  const int64_t step = kIntegerSteps[shape];
  configure_tiles<Tiles>(kIntegerShapes[shape][t.rows]);
  const char* x = static_cast<const char*>(t.x);
  const char* prefetch = t.prefetch;
  const int64_t lines = segments > 0 ? (t.prefetch_lines + segments - 1) / segments : 0;
  alignas(64) SegmentValues scale, offset;
  alignas(64) int32_t sums[kMaxTileRows * kPanelColumns];
  if (!t.accumulate && segments == 0) std::fill_n(t.c, t.rows * kPanelColumns, 0.0f);
  for (int64_t begin = 0; begin < segments;) {
    const int64_t end = std::min(segments, begin + group - (first + begin) % group);
    zero_sums<Tiles, two>();
    for (int64_t k = begin * segment; k < end * segment; k += step) {
      for (int64_t line = 0; line < lines * step / segment; ++line, prefetch += 64) __builtin_prefetch(prefetch, 0, 2);
      load_rows<Tiles, false, two>(x + k / kTileRegisterBytes * kTileRegisterBytes * t.rows + k % kTileRegisterBytes);
      load_columns<Tiles, false>(t.w + k / 4 * kWeightStride);
      multiply_registers<Tiles, two, true>();
    }
    store_sums<Tiles, two>(sums, kWeightStride);
    load_scales(*t.scales, t.panel, first + begin, 1, scale, offset);
    add_scaled(sums, t.rows, scale, t.scales->have_offset() ? offset : nullptr, t.x_sums + begin * t.rows, end - begin,
               t.accumulate || begin > 0, t.c);
    begin = end;
  }
}

// See SumFunction: of rows of 64 bytes.
inline void sum_register_rows(const void* tile, int64_t segments, int segment, int rows, float* sums) {
  const auto* x = static_cast<const int8_t*>(tile);
  for (int64_t s = 0; s < segments; ++s, sums += rows) {
    const int64_t k = s * segment;
    for (int r = 0; r < rows; ++r) {
      const int8_t* row = x + (k / kTileRegisterBytes * rows + r) * kTileRegisterBytes + k % kTileRegisterBytes;
      int32_t sum = 0;
      for (int i = 0; i < segment; ++i) sum += row[i];
      sums[r] = static_cast<float>(sum);
    }
  }
}

template <class Tiles, class Products, class Quads>
constexpr std::array<TileFunction, kMaxTileRows + 1> register_integer_tiles() {
  auto functions = by_rows(register_integer_tile<Tiles, false>, register_integer_tile<Tiles, true>);
  const auto few = integer_tiles<Products, Quads, RegisterRows>(std::make_integer_sequence<int, kVectorRows>());
  for (int rows = 1; rows <= kVectorRows; ++rows) functions[rows] = few[rows];
  return functions;
}

// `Quads` are read by vectors, `Signed` are unpacked.
template <class Tiles, class Products, class Quads, class Signed = Quads>
constexpr GemmKernel register_integer_kernel(const char* name, bool (*takes)(const WeightFormat&),
                                             const char* formats) {
  return {.name = name,
          .codes = TokenFormat::int8,
          .arithmetic = Arithmetic::i8_tiles,
          .takes = takes,
          .formats = formats,
          .panels = coded_panels,
          .numbers = kIntegerNumbers,
          .max_rows = kMaxTileRows,
          .tile = register_integer_tiles<Tiles, Products, Quads>(),
          .sum_segments = sum_register_rows,
          .unpack = unpack_codes<Signed>,
          .unpacked_bytes = 1,
          .unpacked_rows = kVectorRows + 1,
          .release = release_tiles<Tiles>};
}

template <class Tiles, class Products>
constexpr std::array kRegisterIntegerGemm = {
    register_integer_kernel<Tiles, Products, FieldQuads<2>>("i2_int8_tiles", takes_integers<2>, "i2, u2"),
    register_integer_kernel<Tiles, Products, PlaneQuads<3>>("i3_int8_tiles", takes_integers<3>, "i3, u3"),
    register_integer_kernel<Tiles, Products, FieldQuads<4>>("i4_int8_tiles", takes_integers<4>, "i4, u4"),
    register_integer_kernel<Tiles, Products, PlaneQuads<5>>("i5_int8_tiles", takes_integers<5>, "i5, u5"),
    register_integer_kernel<Tiles, Products, PlaneQuads<6>>("i6_int8_tiles", takes_integers<6>, "i6, u6"),
    register_integer_kernel<Tiles, Products, ByteQuads<Products::signed_bytes>, ByteQuads<true>>(
        "i8_int8_tiles", takes_integers<8>, "i8, u8"),
    register_integer_kernel<Tiles, Products, TableQuads<Products::signed_bytes>, TableQuads<true>>(
        "integer_table_int8_tiles", takes_integer_table, "e2m1, iq4"),
};

// As float_tile_peak().
template <class Tiles>
void register_integer_peak(int64_t iterations) {
  alignas(64) static constexpr char kOperands[kMaxTileRows * kTileRegisterBytes] = {};
  configure_tiles<Tiles>(kIntegerShapes[0][kMaxTileRows]);
  zero_sums<Tiles, true>();
  for (int64_t i = 0; i < iterations; ++i) {
    load_rows<Tiles, false, true>(kOperands);
    load_columns<Tiles, false>(kOperands);
    multiply_registers<Tiles, true, true>();
  }
  release_tiles<Tiles>();
}
template <class Tiles>
constexpr PeakLoop kRegisterIntegerPeak = {register_integer_peak<Tiles>,
                                           2.0 * kMaxTileRows* kPanelColumns* kTileRegisterBytes};
