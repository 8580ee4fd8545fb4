// Tiles of codes, computed in parts of few enough rows that results stay in registers beside the sums that are
// in the making. See kernels.h here.
//
// Tiles of all rows load and store their results wherever a sum is scaled. AMD's processors store 64 bytes in two
// cycles, which takes up to a third of the time there; Intel's store them in one, and gain less than it costs them to
// read codes for each part (bench/results/quantised.md). Every number is rounded as in the other tiles.

constexpr bool kHasParts = kHasTallTiles && kTileRows == 2 * kMostHeldRows;

// Each kind of part computes rows first_row .. first_row + rows - 1 of a tile of x_rows.
template <class Part, int x_rows>
void tile_in_parts(const TileArguments& t) {
  static_assert(x_rows <= 2 * kMostHeldRows);
  constexpr int first = x_rows <= kMostHeldRows ? x_rows : (x_rows + 1) / 2;
  Part::template compute<first, x_rows>(t, 0);
  if constexpr (first < x_rows) Part::template compute<x_rows - first, x_rows>(t, first);
}
template <class Part, int first, int... row>
constexpr TileFunctions tiles_in_parts_of(TileFunctions tiles, std::integer_sequence<int, row...>) {
  ((tiles[first + row] = &tile_in_parts<Part, first + row>), ...);
  return tiles;
}
// `lower` are the tiles of less than `first` rows. None where kHasParts is false: callers' `if constexpr` does not keep
// Clang from instantiating what names no parameter of their own.
template <class Part, int first = 1>
constexpr TileFunctions tiles_in_parts(const TileFunctions& lower = {}) {
  if constexpr (!kHasParts)
    return {};
  else
    return tiles_in_parts_of<Part, first>(lower, std::make_integer_sequence<int, kTileRows + 1 - first>());
}

// Only the first part prefetches.
inline TileArguments part_of(const TileArguments& t, int first_row) {
  TileArguments part = t;
  if (first_row > 0) {
    part.next = nullptr;
    part.prefetch.count = 0;
  }
  return part;
}

// Adds offsets [column] times the rows' sums of x.
template <int rows, class XSums>
[[gnu::always_inline]] inline void add_offsets(const float* offset, const XSums& x_sums, Sums<rows>& results) {
  Vector offsets[kPanelVectors];
  load_columns(offset, offsets);
#pragma GCC unroll 8
  for (int r = 0; r < rows; ++r) {
#pragma GCC unroll 2
    for (int j = 0; j < kPanelVectors; ++j) {
      results[r][j] = Vector::fma(offsets[j], Vector::broadcast(x_sums[r]), results[r][j]);
    }
  }
}

// See coded_tile().
template <class Products>
struct CodedPart {
  template <int rows, int x_rows>
  [[gnu::noinline]] static void compute(const TileArguments& t, int first_row) {
    using Codes = UnpackedValues<Products>;
    constexpr int64_t unit_bytes = kUnit / 8 * Codes::bits * kPanelColumns;
    const Codes codes(*t.scales);
    const UnpackedScales<kUnpackedBytes<Products>> scales(t);
    const XGroups x_groups(t);
    const char* unit = t.w;
    const auto* x = static_cast<const typename Products::Value*>(t.x) + first_row * Products::group;
    const float* x_sums = t.x_sums + first_row;
    float* c = t.c + first_row * kPanelColumns;
    PacedPrefetches prefetches(part_of(t, first_row));
    Sums<rows> results;
    load_results<rows>(t, c, results);
    const int64_t sum_k = t.scales->sum, segments = t.scales->segments_in(sum_k);
    for (int64_t s = 0, k = 0; k < t.k; ++s, k += sum_k, x_sums += segments * x_rows) {
      if (k % kPrefetchedK == 0) prefetches.round();
      Sums<rows> sums[1];
#pragma GCC unroll 8
      for (int r = 0; r < rows; ++r) sums[0][r][0] = sums[0][r][1] = Vector::zero();
      for (int64_t u = 0; u < sum_k / kUnit; ++u, unit += unit_bytes, x += kUnit * x_rows) {
        multiply_unit<Products, Codes, x_rows>(codes, unit, 0, nullptr, x, 0, sums,
                                               std::make_integer_sequence<int, kUnit / Codes::chunk>());
      }
      Vector by[kPanelVectors];
      load_columns(scales.scales(s), by);
      const float* x_scales = x_groups.scales(s);
      if (x_scales != nullptr) x_scales += first_row * t.x_scale_stride;
#pragma GCC unroll 8
      for (int r = 0; r < rows; ++r) {
#pragma GCC unroll 2
        for (int j = 0; j < kPanelVectors; ++j) {
          const Vector of_row = x_scales == nullptr ? by[j] : by[j] * Vector::broadcast(x_scales[r * t.x_scale_stride]);
          results[r][j] = Vector::fma(of_row, sums[0][r][j], results[r][j]);
        }
      }
      if (!t.scales->have_offset()) continue;
      if (segments == 1) {
        add_offsets<rows>(scales.offsets(s), x_sums, results);
        continue;
      }
      float of_sum[rows];
      for (int r = 0; r < rows; ++r) of_sum[r] = sum_of_segments<x_rows>(x_sums + r, segments);
      add_offsets<rows>(scales.offsets(s), of_sum, results);
    }
    store_results<rows>(results, c);
  }
};

// See integer_rows().
template <class Products, class Quads, class Scales>
struct IntegerPart {
  template <int rows, int x_rows>
  [[gnu::noinline]] static void compute(const TileArguments& t, int first_row) {
    integer_rows<Products, Quads, Scales, QuadRows, 1, rows, x_rows>(part_of(t, first_row), first_row);
  }
};

// Codes that a tile reads packed, once for each part. The sums of longer groups are scaled so rarely that it takes less
// time to read codes once: then the first part computes all rows.
template <class Products, class Quads>
struct PackedIntegerPart {
  template <int rows, int x_rows>
  static void compute(const TileArguments& t, int first_row) {
    if (t.scales->scales.segments == 1) {
      return IntegerPart<Products, Quads, RunScales>::template compute<rows, x_rows>(t, first_row);
    }
    if (first_row == 0) integer_tile<Products, Quads, RunScales, QuadRows, 1, x_rows>(t);
  }
};

// See factor_tile(): what stays in registers are the totals of an upper scale's segments.
template <class Products, class Quads, class Factors, FactorOffset offset>
struct FactorPart {
  // What is left to do at a run's end.
  static constexpr FactorOffset left = offset == FactorOffset::bias ? FactorOffset::none : offset;

  template <int rows, int x_rows>
  [[gnu::noinline]] static void compute(const TileArguments& t, int first_row) {
    const Factors factors(t);
    PacedPrefetches prefetches(part_of(t, first_row));
    if (!t.accumulate) std::fill_n(t.c + first_row * kPanelColumns, rows * kPanelColumns, 0.0f);
    for (SegmentRuns run(t, t.scales->super_scales.segments); run.next();) {
      if (run.begin * t.scales->segment % kPrefetchedK == 0) prefetches.round();
      add_run<rows, x_rows>(t, first_row, factors, run);
    }
  }

 private:
  // Hides where arguments come from, so that compilers compute nothing of what follows before the products.
  [[gnu::always_inline]] static const TileArguments& only_from_here(const TileArguments& t) {
    const TileArguments* arguments = &t;
    asm volatile("" : "+r"(arguments));
    return *arguments;
  }

  // Of one run. A function of its own: in a whole tile, compilers would keep pointers in vector registers, and none is
  // free.
  template <int rows, int x_rows>
  [[gnu::noinline]] static void add_run(const TileArguments& t, int first_row, const Factors& factors,
                                        const SegmentRuns& run) {
    using Rows = QuadRows<x_rows>;
    constexpr int64_t unit_bytes = kUnit * kPanelColumns;
    const Quads codes(*t.scales);
    const int units = t.scales->segment / kUnit;
    const int64_t first_unit = run.begin * units;
    const char* unit = t.w + first_unit * unit_bytes;
    const char* x = static_cast<const char*>(t.x) + first_unit * kUnit * x_rows + first_row * Rows::row_bytes;
    const Biases<offset == FactorOffset::bias ? Quads::bias : 0, rows> biases(t, first_row, run);
    Words totals[1][rows][kPanelVectors];
    clear(totals);
    for (int64_t s = run.begin; s < run.end; ++s) {
      Words sums[1][rows][kPanelVectors];
      biases.begin(s, sums);
      for (int u = 0; u < units; ++u, unit += unit_bytes, x += kUnit * x_rows) {
        multiply_quads<Products, Rows>(codes, unit, 0, x, sums);
      }
      Words by[kPanelVectors];
      factors.load(s, by);
#pragma GCC unroll 8
      for (int r = 0; r < rows; ++r) {
#pragma GCC unroll 2
        for (int j = 0; j < kPanelVectors; ++j) totals[0][r][j] = totals[0][r][j].plus(sums[0][r][j].times(by[j]));
      }
    }
    add_factor_totals<left, 0, rows>(only_from_here(t), first_row, factors, totals[0], run);
  }
};

// Codes that a tile reads packed, once for each half of its rows. Tiles of few rows need no parts.
template <class Products, class Quads, class Factors, FactorOffset offset>
struct PackedFactorPart {
  template <int rows, int x_rows>
  [[gnu::noinline]] static void compute(const TileArguments& t, int first_row) {
    factor_rows<Products, Quads, Factors, offset, QuadRows, 1, rows, x_rows>(part_of(t, first_row), first_row);
  }
};
