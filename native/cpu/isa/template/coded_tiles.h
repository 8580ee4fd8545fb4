// Tiles of matrix products with quantised weights. See kernels.h here.
//
// A segment's products with the codes are summed on their own; the sum, scaled, is added to the row's sums, segment
// after segment. So it does not show in the bits whether segments are summed one after another or, where few rows would
// leave multipliers waiting for sums, side by side.

// How codes are multiplied by x: element by element, in float32.
struct FloatProducts {
  using Value = float;
  static constexpr int group = 1;  // k at once

  template <class Codes, int rows, int k>
  static void multiply(const Codes& codes, const typename Codes::Bits (&bits)[kPanelVectors], const Value* x,
                       Sums<rows>& sums) {
    const Vector w[kPanelVectors] = {codes.template value<k>(bits[0]), codes.template value<k>(bits[1])};
    multiply_add<rows>(x, w, sums);
  }
  // The numbers that are multiplied.
  template <class Codes, int k>
  static void unpack(const Codes& codes, const typename Codes::Bits& bits, char* target) {
    codes.template value<k>(bits).store(reinterpret_cast<float*>(target));
  }
};

// Codes that are asked for past the caches.
template <class Codes>
struct PastCaches : Codes {
  using Codes::Codes;
  static constexpr bool past_caches = true;
};
template <class Codes>
constexpr bool kPastCaches = requires { Codes::past_caches; };
// Whether tiles of this many rows can ask for codes so. Those of more rows wait less for memory, and other vectors
// are not those of a processor for which fitted() sets it.
template <class Codes, int rows>
constexpr bool kCanPassCaches = kWidth == 16 && rows <= 4 && !requires { Codes::unpacked; };

template <bool past_caches>
inline void prefetch(const char* line) {
  __builtin_prefetch(line, 0, past_caches ? 0 : 2);
}

// Behind what makes these lanes and before what uses them. Compilers move other prefetches of a loop to its top, where
// its loads wait for them.
template <bool past_caches, class Lanes>
[[gnu::always_inline]] inline void prefetch(const char* line, [[maybe_unused]] Lanes& made) {
#if defined(__x86_64__)
  if constexpr (past_caches) {
    asm volatile("prefetchnta %1" : "+v"(made) : "m"(*line));
  } else {
    asm volatile("prefetcht1 %1" : "+v"(made) : "m"(*line));
  }
#else
  prefetch<past_caches>(line);
#endif
}
template <bool past_caches, class Lane, size_t width>
inline void prefetch(const char* line, Lane (&)[width]) {
  prefetch<past_caches>(line);
}

// Asks for one of the equal parts of the next units. Unpacked codes are in a cache.
template <class Codes, int units, int parts, class... Lanes>
[[gnu::always_inline]] inline void prefetch_part(const char* next, int part, Lanes&... made) {
  if constexpr (requires { Codes::unpacked; }) return;
  constexpr int lines = (units * kUnit / 8 * Codes::bits * kPanelColumns + 63) / 64;
  for (int line = lines * part / parts; line < lines * (part + 1) / parts; ++line) {
    prefetch<kPastCaches<Codes>>(next + 64 * line, made...);
  }
}

// Elements first .. first + chunk - 1 of a unit, by some rows of a tile of `x_rows`.
template <class Products, class Codes, int first, int x_rows, int rows, int... i>
[[gnu::always_inline]] inline void multiply_chunk(const Codes& codes, const char* unit,
                                                  const typename Products::Value* x, Sums<rows>& sums,
                                                  std::integer_sequence<int, i...>) {
  typename Codes::Bits bits[kPanelVectors];
  codes.template load<first>(unit, bits);
  (Products::template multiply<Codes, rows, first + i * Products::group>(
       codes, bits, x + (first + i * Products::group) * x_rows, sums),
   ...);
}

// The same of `side` sums, one after the other. Memory is asked for what comes next in its own order, not in that of
// these sums: it answers up to 1.3 times as fast. Prefetches that have a place among the products of several rows
// cost what they save.
template <class Products, class Codes, int first, int x_rows, int rows, int side>
[[gnu::always_inline]] inline void multiply_chunks(const Codes& codes, const char* unit, int64_t unit_stride,
                                                   const char* next, const typename Products::Value* x,
                                                   int64_t x_stride, Sums<rows> (&sums)[side]) {
  constexpr int parts = kUnit / Codes::chunk * side;
#pragma GCC unroll 4
  for (int s = 0; s < side; ++s) {
    const int part = first / Codes::chunk * side + s;
    if constexpr (rows == 1) {
      prefetch_part<Codes, side, parts>(next, part, sums[s][0][0].v);
    } else {
      prefetch_part<Codes, side, parts>(next, part);
    }
    multiply_chunk<Products, Codes, first, x_rows>(codes, unit + s * unit_stride, x + s * x_stride, sums[s],
                                                   std::make_integer_sequence<int, Codes::chunk / Products::group>());
  }
}

template <class Products, class Codes, int x_rows, int rows, int side, int... chunk>
[[gnu::always_inline]] inline void multiply_unit(const Codes& codes, const char* unit, int64_t unit_stride,
                                                 const char* next, const typename Products::Value* x, int64_t x_stride,
                                                 Sums<rows> (&sums)[side], std::integer_sequence<int, chunk...>) {
  (multiply_chunks<Products, Codes, chunk * Codes::chunk, x_rows>(codes, unit, unit_stride, next, x, x_stride, sums),
   ...);
}

// Where the operands of some sums begin.
template <class Value>
struct SumOperands {
  int64_t k;  // of each
  const char* codes;
  const char* next;  // codes to prefetch
  const Value* x;
  const float* scale;
  const float* offset;  // null: none
  const float* x_sums;  // of segments
  int64_t segments;     // of each
  // The scales of x for the first group of sums, if x are codes with scales for groups of sums. Null: none.
  const float* x_scales = nullptr;
  int64_t x_scale_stride = 0;
  int passed = 0;       // sums of the first group
  int group_shift = 0;  // the logarithm of a group's sums
};

// Of a row's sums of x, [segment][row].
template <int rows>
inline float sum_of_segments(const float* x_sums, int64_t segments) {
  float sum = x_sums[0];
  for (int64_t i = 1; i < segments; ++i) sum += x_sums[i * rows];
  return sum;
}

// Adds `side` scaled sums to the results.
template <class Products, class Codes, int rows, int side, class TileResults>
[[gnu::always_inline]] inline void add_sums(const Codes& codes, const SumOperands<typename Products::Value>& from,
                                            TileResults& results) {
  constexpr int64_t unit_bytes = kUnit / 8 * Codes::bits * kPanelColumns;
  const float* x_sums = from.x_sums;
  float longer_sums[side * rows];
  if (from.offset != nullptr && from.segments > 1) {
    for (int s = 0; s < side; ++s) {
      for (int r = 0; r < rows; ++r) {
        longer_sums[s * rows + r] = sum_of_segments<rows>(x_sums + s * from.segments * rows + r, from.segments);
      }
    }
    x_sums = longer_sums;
  }
  Sums<rows> sums[side];
#pragma GCC unroll 4
  for (int s = 0; s < side; ++s) {
#pragma GCC unroll 16
    for (int r = 0; r < rows; ++r) sums[s][r][0] = sums[s][r][1] = Vector::zero();
  }
  const int64_t units = from.k / kUnit;
  const char *unit = from.codes, *next = from.next;
  const auto* x = from.x;
  for (int64_t u = 0; u < units; ++u, unit += unit_bytes, next += side * unit_bytes, x += kUnit * rows) {
    multiply_unit<Products, Codes, rows>(codes, unit, units * unit_bytes, next, x, from.k * rows, sums,
                                         std::make_integer_sequence<int, kUnit / Codes::chunk>());
  }
#pragma GCC unroll 16
  for (int r = 0; r < rows; ++r) {
#pragma GCC unroll 2
    for (int j = 0; j < kPanelVectors; ++j) {
      Vector sum = results.get(r, j);
#pragma GCC unroll 4
      for (int s = 0; s < side; ++s) {
        const int at = s * kPanelColumns + j * kWidth;
        Vector scale = Vector::load(from.scale + at);
        if (from.x_scales != nullptr) {
          const int group = (from.passed + s) >> from.group_shift;
          scale = scale * Vector::broadcast(from.x_scales[r * from.x_scale_stride + group]);
        }
        sum = Vector::fma(scale, sums[s][r][j], sum);
        if (from.offset == nullptr) continue;
        sum = Vector::fma(Vector::load(from.offset + at), Vector::broadcast(x_sums[s * rows + r]), sum);
      }
      results.set(r, j, sum);
    }
  }
}

// Sums side by side, so that some eight vectors are in the making. With AVX2, one row is multiplied by whole bytes
// nearly as fast as memory gives them, and four sums are four streams, which take 1.5 times as long. Processors that
// ask for codes past the caches look far enough ahead to make several sums of one stream.
template <class Codes>
constexpr int side_by_side(int rows) {
  if (kPastCaches<Codes> && rows == 1) return 1;
  if (kWidth == 8 && Codes::bits == 8 && rows == 1) return 2;
  return rows == 1 ? 4 : rows <= 3 ? 2 : 1;
}

// What to prefetch while a stream of codes is read: codes a fixed distance ahead and, near the end, those that are read
// next, which are elsewhere.
struct CodeStream {
  // Of `bytes` bytes. The reader is at places up to `apart` bytes apart, and the furthest needs its lines first.
  CodeStream(const TileArguments& t, int64_t bytes, int64_t apart = 0)
      : jump(t.next == nullptr ? 0 : t.next - (t.w + bytes)) {
    if (t.next == nullptr) return;
    distance = std::max(t.distance, 2 * apart);
    near_end = bytes - distance;
  }
  // From codes `at` bytes after the first.
  int64_t ahead(int64_t at) const { return at < near_end ? distance : distance + jump; }

  int64_t jump, distance = 0, near_end = 0;
};

// Of x that are codes: the groups of sums that have a scale each, a power of two of them.
struct XGroups {
  explicit XGroups(const TileArguments& t)
      : x_scales(t.x_scales), stride(t.x_scale_stride), first(t.scales->sums_in(t.first_k)) {
    if (x_scales == nullptr) return;
    shift = std::countr_zero(static_cast<uint64_t>(t.x_scale_segments)) -
            std::countr_zero(static_cast<uint64_t>(t.scales->segments_in(t.scales->sum)));
  }
  // Of a sum of the call: its group's scales, from the first row on. Null: x are no codes.
  const float* scales(int64_t sum) const { return x_scales == nullptr ? nullptr : x_scales + ((first + sum) >> shift); }
  template <class Value>
  void set(int64_t sum, SumOperands<Value>& operands) const {
    operands.x_scales = scales(sum);
    operands.x_scale_stride = stride;
    operands.passed = static_cast<int>((first + sum) & ((int64_t{1} << shift) - 1));
    operands.group_shift = shift;
  }

  const float* x_scales;
  int64_t stride, first;
  int shift = 0;
};

// Adds all of a call's sums to its results, some side by side. A function of its own: beside another one, compilers
// find fewer registers for it.
template <class Products, class Codes, class Scales, int rows>
[[gnu::noinline]] void add_all_sums(const TileArguments& t) {
  constexpr int side = side_by_side<Codes>(rows);
  using Value = typename Products::Value;
  const Codes codes(*t.scales);
  Scales scales(t);
  const int64_t sum_k = std::min<int64_t>(t.scales->sum, t.k), segments = t.scales->segments_in(sum_k);
  constexpr int64_t bytes_of_8 = int64_t{Codes::bits} * kPanelColumns;
  const int64_t sum_bytes = sum_k / 8 * bytes_of_8;
  const XGroups x_groups(t);
  const int64_t round_k = std::max(kPrefetchedK, side * sum_k);  // a power of two
  PacedPrefetches prefetches(t, (t.k + round_k - 1) / round_k);
  const CodeStream stream(t, t.k / 8 * bytes_of_8, (side - 1) * sum_bytes);
  Results<rows> results(t, 0);
  int64_t k = 0;
  const auto add = [&]<int count>(int64_t s) __attribute__((always_inline)) {
    if ((k & (round_k - 1)) == 0) prefetches.round();
    const char* sum_codes = t.w + s * sum_bytes;
    SumOperands<Value> from{.k = sum_k,
                            .codes = sum_codes,
                            .next = sum_codes + stream.ahead(s * sum_bytes),
                            .x = static_cast<const Value*>(t.x) + k * rows,
                            .scale = scales.scales(s),
                            .offset = t.scales->have_offset() ? scales.offsets(s) : nullptr,
                            .x_sums = t.x_sums + s * segments * rows,
                            .segments = segments};
    if (t.x_scales != nullptr) x_groups.set(s, from);
    add_sums<Products, Codes, rows, count>(codes, from, results);
  };
  static_assert(kSumsAtOnce % side == 0 && kSegmentsAtOnce % side == 0);
  int64_t s = 0;
  for (; k + side * sum_k <= t.k; s += side, k += side * sum_k) add.template operator()<side>(s);
  if constexpr (side > 1) {
    for (; k < t.k; ++s, k += sum_k) add.template operator()<1>(s);
  }
  results.finish();
}

template <class Products, class Codes, class Scales, int rows>
void coded_tile(const TileArguments& t) {
  if constexpr (kCanPassCaches<Codes, rows>) {
    if (t.past_caches > 0) return add_all_sums<Products, PastCaches<Codes>, Scales, rows>(t);
  }
  add_all_sums<Products, Codes, Scales, rows>(t);
}

// The class that reads codes for this many rows: Codes, or what CodesByRows says.
template <class Codes, int rows>
struct CodesFor {
  using type = Codes;
};
template <class Few, class Many, int few>
struct CodesByRows;
template <class Few, class Many, int few, int rows>
struct CodesFor<CodesByRows<Few, Many, few>, rows> {
  using type = std::conditional_t<rows <= few, Few, Many>;
};

template <class Products, class Codes, class Scales, int... row>
constexpr TileFunctions coded_tiles_of(std::integer_sequence<int, row...>) {
  return {nullptr, &coded_tile<Products, typename CodesFor<Codes, row + 1>::type, Scales, row + 1>...};
}

// Indexed by row count, up to kTileRows.
template <class Products, class Codes, class Scales = SumScales>
constexpr TileFunctions coded_tiles() {
  return coded_tiles_of<Products, Codes, Scales>(std::make_integer_sequence<int, kTileRows>());
}

// Bytes of one unpacked code: products read words of 32 bits.
template <class Products>
constexpr int kUnpackedBytes = 4 / Products::group;

template <class Products, class Codes, int first, int... i>
[[gnu::always_inline]] inline void unpack_chunk(const Codes& codes, const char* unit, char* target,
                                                std::integer_sequence<int, i...>) {
  typename Codes::Bits bits[kPanelVectors];
  codes.template load<first>(unit, bits);
#pragma GCC unroll 2
  for (int j = 0; j < kPanelVectors; ++j) {
    (Products::template unpack<Codes, first + i * Products::group>(codes, bits[j],
                                                                   target + 4 * (i * kPanelColumns + j * kWidth)),
     ...);
  }
}

template <class Products, class Codes, int... chunk>
[[gnu::always_inline]] inline void unpack_unit(const Codes& codes, const char* unit, char* target,
                                               std::integer_sequence<int, chunk...>) {
  (unpack_chunk<Products, Codes, chunk * Codes::chunk>(
       codes, unit, target + chunk * Codes::chunk * kUnpackedBytes<Products> * kPanelColumns,
       std::make_integer_sequence<int, Codes::chunk / Products::group>()),
   ...);
}

// Unpacks a block of k for all tiles by calls of unpack(k, target), for a step after the other.
template <int code_bytes, class Unpack>
inline void unpack_steps(const TileArguments& t, int64_t step, char* target, Unpack&& unpack) {
  PacedPrefetches prefetches(t, (t.k + step - 1) / step);
  for (int64_t k = 0; k < t.k; k += step) {
    prefetches.round();
    unpack(k, target + k * code_bytes * kPanelColumns);
  }
}

// See UnpackFunction: codes become the numbers that are multiplied, [k / group][column][k % group].
template <class Products, class Codes>
void unpack_values(const TileArguments& t, char* unpacked) {
  const Codes codes(*t.scales);
  unpack_steps<kUnpackedBytes<Products>>(t, kUnit, unpacked, [&](int64_t k, char* target) {
    unpack_unit<Products>(codes, t.w + k / 8 * Codes::bits * kPanelColumns, target,
                          std::make_integer_sequence<int, kUnit / Codes::chunk>());
  });
  unpack_sum_scales<UnpackedScales<kUnpackedBytes<Products>>>(t, unpacked);
}

// What that leaves.
template <class Products>
struct UnpackedValues {
  static constexpr bool unpacked = true;
  static constexpr int bits = 8 * kUnpackedBytes<Products>;
  static constexpr int chunk = 8;
  using Bits = const char*;

  explicit UnpackedValues(const PanelScales&) {}
  template <int first>
  void load(const char* unit, Bits (&words)[kPanelVectors]) const {
    const char* from = unit + first / Products::group * 4 * kPanelColumns;
#pragma GCC unroll 2
    for (int j = 0; j < kPanelVectors; ++j) words[j] = from + 4 * j * kWidth;
  }
  template <int k>
  Vector value(Bits words) const {
    return Vector::load(reinterpret_cast<const float*>(words) + k % chunk * kPanelColumns);
  }
  template <int k>
  Words pair(Bits words) const {
    return Words::load(words + k % chunk / 2 * 4 * kPanelColumns);
  }
};
