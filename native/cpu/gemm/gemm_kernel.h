// The tables of matrix products. Each instruction set has a table with one row for every way in which it multiplies
// tokens by weights of a format. A new kernel is a new row.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <span>

#include "core/formats/token_format.h"
#include "core/operators/experts.h"
#include "cpu/gemm/panel_format.h"
#include "cpu/gemm/plan.h"

namespace moe::cpu {

// The most rows of x that one tile of a matrix product covers, and the most columns of a panel.
constexpr int kMaxTileRows = 32;
constexpr int64_t kMostPanelColumns = 32;

// What tokens are rounded to, and how they are packed.
//   bf16_pairs   pairs of consecutive k as bfloat16
//   i8_quads     four consecutive k as bytes, in the order of panel_codes.h
//   i8_digits    the three digits of each number, [k / 4][row][digit][k % 4], and after the last k the rows' units; see
//                isa/template/digits.h
// The others are for tile registers, whose rows have 64 bytes:
//   i8_tiles     bytes, [k / 64][row][k % 64]
//   bf16_tiles   bfloat16, [k / 32][part][row][k % 32]; ..._of_two and ..._of_three split a number into parts whose sum
//                it is
enum class Arithmetic : uint8_t {
  f32,
  bf16_pairs,
  i8_quads,
  i8_digits,
  i8_tiles,
  bf16_tiles,
  bf16_tiles_of_two,
  bf16_tiles_of_three
};

constexpr bool is_tiles(Arithmetic arithmetic) { return arithmetic >= Arithmetic::i8_tiles; }
constexpr bool is_bytes(Arithmetic arithmetic) {
  return arithmetic == Arithmetic::i8_quads || arithmetic == Arithmetic::i8_digits ||
         arithmetic == Arithmetic::i8_tiles;
}

// Elements of consecutive k that are packed next to each other.
constexpr int k_group(Arithmetic arithmetic) {
  switch (arithmetic) {
    case Arithmetic::f32: return 1;
    case Arithmetic::bf16_pairs: return 2;
    case Arithmetic::i8_quads:
    case Arithmetic::i8_digits: return 4;
    case Arithmetic::i8_tiles: return 64;
    case Arithmetic::bf16_tiles:
    case Arithmetic::bf16_tiles_of_two:
    case Arithmetic::bf16_tiles_of_three: return 32;
  }
  return 1;
}
// The digits of a number that is packed so.
inline constexpr int kDigits = 3;
// The parts that a number is packed as.
constexpr int parts_of(Arithmetic arithmetic) {
  switch (arithmetic) {
    case Arithmetic::i8_digits: return kDigits;
    case Arithmetic::bf16_tiles_of_three: return 3;
    case Arithmetic::bf16_tiles_of_two: return 2;
    default: return 1;
  }
}
constexpr int element_bytes(Arithmetic arithmetic) {
  switch (arithmetic) {
    case Arithmetic::f32: return 4;
    case Arithmetic::bf16_pairs:
    case Arithmetic::bf16_tiles:
    case Arithmetic::bf16_tiles_of_two:
    case Arithmetic::bf16_tiles_of_three: return 2 * parts_of(arithmetic);
    case Arithmetic::i8_quads:
    case Arithmetic::i8_digits:
    case Arithmetic::i8_tiles: return parts_of(arithmetic);
  }
  return 4;
}

// In a packed tile of bf16_tiles with so many parts and rows, the register rows before those with the first part of k.
constexpr int64_t register_rows_before(int64_t k, int parts, int rows) {
  return k / k_group(Arithmetic::bf16_tiles) * parts * rows;
}

// Bytes of the unit by which a row's results are multiplied; see row_units().
constexpr int unit_bytes(Arithmetic arithmetic) { return arithmetic == Arithmetic::i8_digits ? int{sizeof(float)} : 0; }
// Whether a row can be packed piece by piece, as soon as some of its elements are known.
constexpr bool packs_pieces(Arithmetic arithmetic) { return unit_bytes(arithmetic) == 0; }

// The measured peak (see runtime/ceilings.h) that bounds products of each kind.
MOE_ENUM(Peak, fma, bf16, int8)
constexpr Peak peak_of(Arithmetic arithmetic) {
  return is_bytes(arithmetic) ? Peak::int8 : arithmetic == Arithmetic::f32 ? Peak::fma : Peak::bf16;
}

// Rows of results that a tile function may finish between its products: while tile registers are multiplied, vectors
// have nothing to do. The caller finishes what is left.
struct Aside {
  using Finish = void (*)(Aside& aside, int rows);

  int rows = 0;             // that are left
  Finish finish = nullptr;  // the next rows, at most as many as are left; at once, or together with those after them

  void finish_rows(int most) {
    if (rows > 0) finish(*this, std::min(most, rows));
  }
};

// How rows of results are stored: as float32, perhaps past the caches, or as bfloat16.
enum class ResultStorage : uint8_t { f32, streamed_f32, bf16 };

// Rows of a panel's sums of which results are made and stored.
struct ResultRows : Aside {
  float* c = nullptr;             // the next row
  const float* scales = nullptr;  // by which it and those after it are multiplied; null: by nothing
  const float* bias = nullptr;    // the panel's, or null
  const Clamp* clamp = nullptr;
  char* target = nullptr;  // where its results go
  int64_t row_bytes = 0;   // from there to those of the row after it
};

// Cache lines to prefetch, in streams that take turns. Of one stream, hardware asks for some 20 lines ahead within a
// page, which is too few while a core multiplies; see bench/results/cpu-amx.md.
struct PrefetchLines {
  const char* first = nullptr;  // of the first stream
  int64_t stream_bytes = 0;     // from a stream to the next
  int stream_bits = 0;          // of the number of streams
  int begin = 0, count = 0;     // which of them, counted in turns

  // Line `index` of all streams, counted in turns.
  const char* line(int index) const {
    const int stream = index & ((1 << stream_bits) - 1);
    return first + stream * stream_bytes + int64_t{index >> stream_bits} * 64;
  }
};

// As many as bring lines fastest on Intel's processors.
inline constexpr int kPrefetchStreams = 8;

// c[r * columns + j] (+)= sum over k of x[k][r] * w[k][j], for `k` consecutive k from `first_k` on. Sums are formed in
// the same order whatever the number of rows, so a row's result does not depend on the rows beside it.
struct TileArguments {
  static constexpr int64_t kDistance = 8192;

  int64_t first_k = 0;  // both multiples of the panels' step
  int64_t k = 0;
  int64_t block_k = int64_t{1} << 40;  // sums of groups end at its multiples, too
  int rows = 0;                        // of the tile
  const void* x = nullptr;             // packed tile (see pack_row), from first_k on
  const char* w = nullptr;  // packed panel (see panel_format.h), from first_k on; unpacked, if the kernel does that
  float* c = nullptr;
  bool accumulate = false;
  // From a panel to the next, for wide tiles: c, w and `panel` are those of the first.
  int64_t panel_bytes = 0;
  // From a row of c to the next; only kernels for plain weights can have others than the panel's columns, which are 0.
  int64_t c_stride = 0;
  PrefetchLines prefetch = {};  // during this call, spread over its work
  // What is read after these codes, if they are read only once, and how far ahead they are asked for: far enough for
  // memory to answer, near enough to stay in the second-level cache. Null: all prefetches are listed above.
  const char* next = nullptr;
  int64_t distance = kDistance;
  // How far ahead plain weights that are read only once are asked for past the caches. 0: hardware does that. If it is
  // not 0, few rows ask for codes past the caches, too, at their own distance, and a single row reads them in one
  // stream.
  int64_t past_caches = 0;
  // If the panel keeps its scales apart: how, and where it begins.
  const PanelScales* scales = nullptr;
  const char* panel = nullptr;
  // If GemmKernel::sums_x(): what sum_segments() gave, from first_k on.
  const float* x_sums = nullptr;
  // If x are codes with a scale for every x_scale_segments segments: the scales of the first row, from k = 0 on, and
  // the distance to those of the next row.
  const float* x_scales = nullptr;
  int64_t x_scale_stride = 0;
  int64_t x_scale_segments = 0;
  Aside* aside = nullptr;  // null: there are no rows to be finished
};
using TileFunction = void (*)(const TileArguments& arguments);
// By row count. There is none for 0 rows.
using TileFunctions = std::array<TileFunction, kMaxTileRows + 1>;

// A tile of few rows over several consecutive panels at once, where the sums of one would leave multipliers waiting and
// a core reads several streams faster than one. c is [panel][row][column].
struct WideTile {
  TileFunction function = nullptr;
  int panels = 1;
};
using WideTiles = std::array<WideTile, kMaxTileRows + 1>;

// Sums of x over each segment of k, [segments][rows][GemmKernel::row_sums], of a packed tile. The order of each sum
// depends on the segment alone.
using SumFunction = void (*)(const void* tile, int64_t segments, int segment, int rows, float* sums);

// Writes t.k consecutive k of the panel t.w, padded with zeros to whole groups of k, as tiles of all rows then read
// them: codes of UnpackedTiles::code_bytes, and behind them the scales and offsets of all segments, as float32.
using UnpackFunction = void (*)(const TileArguments& t, char* unpacked);

// Tiles that share a panel read what is unpacked instead of it.
struct UnpackedTiles {
  UnpackFunction unpack = nullptr;  // null: they read the panel,
  int at_least = 2;                 // as they do if fewer share it, which unpacking would cost more than it saves
  int code_bytes = 0;
  TileFunctions tile = {};
};

// Dtypes of tokens, one bit each.
using TokenDTypes = uint8_t;
constexpr TokenDTypes tokens_of(DType dtype) { return static_cast<TokenDTypes>(1u << static_cast<int>(dtype)); }
constexpr TokenDTypes kAllTokens = tokens_of(DType::f32) | tokens_of(DType::f16) | tokens_of(DType::bf16);

// Rows of x as a product has them: tokens of a dtype; or codes with one scale for a row, which are exact in the dtype.
struct RowKind {
  constexpr RowKind(DType tokens, TokenFormat rounded = TokenFormat::none) : dtype(tokens), codes(rounded) {}
  bool operator==(const RowKind&) const = default;

  DType dtype;
  TokenFormat codes;
};

// How a product reads tokens that it rounds so. Codes are exact in bfloat16.
constexpr RowKind rows_of(DType tokens, const TokenScheme& scheme) {
  if (!scheme.coded()) return tokens;
  return {DType::bf16, scheme.scales_rows() ? scheme.format : TokenFormat::none};
}

struct GemmKernel {
  const char* name = nullptr;
  TokenDTypes tokens = 0;                   // accepted dtypes,
  TokenFormat codes = TokenFormat::none;    // or the only codes that it accepts
  Arithmetic arithmetic = Arithmetic::f32;  // how it reads them
  // The formats of the weights, as stored. Called on any CPU, so it must not be compiled for an instruction set.
  bool (*takes)(const WeightFormat&) = nullptr;
  const char* formats = nullptr;   // the same in words
  PanelFunction panels = nullptr;  // how they are packed: once, so equal for all tokens
  const char* numbers = nullptr;   // what its results are, in words
  int max_rows = 0;                // per tile
  TileFunctions tile = {};
  WideTiles wide_tile = {};
  SumFunction sum_segments = nullptr;  // for quantised weights
  int row_sums = 1;                    // its sums for each row and segment: one, or one of each digit
  int in_order_rows = 0;               // tiles up to this height read panels in order, see read_scales()
  int biased_rows = 0;  // tiles up to this height always need the sums of x, because their codes have a bias
  UnpackedTiles unpacked = {};
  // The same for CPUs whose stores are slow, see isa/template/row_parts.h.
  UnpackedTiles in_parts = {};
  TileFunctions tile_in_parts = {};
  int64_t past_caches = 0;  // TileArguments::past_caches, for tiles of one panel that is not shared
  int streams = 1;          // in which the next panel is prefetched: by tiles that share one, each a part,
  bool ahead = false;       // and by a single tile, which else may prefetch a little ahead itself
  int one_stream_rows = 0;  // so many rows use weights as fast as one stream brings them
  Blocking blocking = {};
  void (*release)() = nullptr;  // after a thread's last tile: leaves the state of tile registers

  // The most that a wide tile takes.
  constexpr int panels_at_once() const { return wide_tile[1].panels; }
  constexpr bool reads(RowKind rows) const {
    return codes != TokenFormat::none ? codes == rows.codes : (tokens & tokens_of(rows.dtype)) != 0;
  }
  // Whether tiles of this height need the sums of x.
  bool sums_x(const PanelScales& scales, int rows) const { return scales.have_offset() || rows <= biased_rows; }
};

inline constexpr const char* kFloatNumbers = "tokens as float32, float32 sums";
inline constexpr const char* kCodeNumbers =
    "tokens as float32, codes summed in float32 and scaled, 16 to 128 k at a time";
inline constexpr const char* kIntegerNumbers = "exact sums of codes times codes, scaled in float32, group by group";
inline constexpr const char* kDigitNumbers =
    "tokens as three digits of 8 bits, exact sums of codes times digits, scaled in float32, group by group";
inline constexpr const char* kFactorNumbers =
    "exact sums of codes times codes times scales, scaled in float32 by the scales' scales, block by block";
inline constexpr const char* kDigitFactorNumbers =
    "tokens as three digits of 8 bits, exact sums of codes times digits, times scales in float32, scaled by the "
    "scales' scales block by block";

template <CodeType code>
constexpr bool takes_code(const WeightFormat& format) {
  return format.code == code;
}
template <int bits>
constexpr bool takes_table(const WeightFormat& format) {
  return takes_code<CodeType::table>(format) && format.bits == bits;
}
template <int bits>
constexpr bool takes_integers(const WeightFormat& format) {
  return (takes_code<CodeType::signed_integer>(format) || takes_code<CodeType::unsigned_integer>(format)) &&
         format.bits == bits;
}
// Integer codes of this width with an integer scale for each segment, whose sums fit: see factor_tiles.h.
template <CodeType code, int bits, ScaleType type>
constexpr bool takes_factors(const WeightFormat& format) {
  constexpr Offset offset = code == CodeType::unsigned_integer ? Offset::minimum : Offset::none;
  return format.code == code && format.bits == bits && format.offset == offset &&
         panel_type(format.scales.type) == type && format.scales.columns == segment_of(format) &&
         format.super_scales.type == ScaleType::f16 && format.super_scales.columns > 0 &&
         format.super_scales.columns <= 256 && (code != CodeType::table || takes_integer_table<bits>(format));
}
// What another predicate takes, with a float scale of this type for each segment, below one for a row.
template <bool (*takes)(const WeightFormat&), ScaleType type>
constexpr bool takes_float_factors(const WeightFormat& format) {
  return takes(format) && format.offset == Offset::none && format.scales.type == type &&
         format.scales.columns == segment_of(format) && !format.super_scales.absent() &&
         format.super_scales.type == ScaleType::f32 && format.super_scales.columns == 0;
}
// What another predicate takes, with scales that are powers of two and nothing else: none of groups of columns for
// which tokens may have scales too, as sums over all columns cannot be scaled by those.
template <bool (*takes)(const WeightFormat&)>
constexpr bool takes_with_powers_of_two(const WeightFormat& format) {
  return takes(format) && format.scales.type == ScaleType::e8m0 && format.super_scales.absent() &&
         format.offset == Offset::none && token_scheme(TokenFormat::fp8, format).scales_rows();
}

// What another predicate takes, with groups of at least `columns` columns.
template <bool (*takes)(const WeightFormat&), int columns>
constexpr bool takes_in_groups(const WeightFormat& format) {
  return takes(format) && (format.scales.columns == 0 || format.scales.columns >= columns);
}

// Concatenates the rows of several lists into one table.
template <size_t... counts>
constexpr auto joined(const std::array<GemmKernel, counts>&... lists) {
  std::array<GemmKernel, (counts + ...)> all{};
  size_t next = 0;
  const auto append = [&](std::span<const GemmKernel> list) {
    for (const GemmKernel& row : list) all[next++] = row;
  };
  (append(lists), ...);
  return all;
}

// The first row of the table that takes such rows of x and weights of this format, or null. The choice never depends on
// the number of tokens, so neither do a token's results.
constexpr const GemmKernel* choose_gemm(std::span<const GemmKernel> rows, RowKind x, const WeightFormat& format) {
  for (const GemmKernel& row : rows) {
    if (row.reads(x) && row.takes(format)) return &row;
  }
  return nullptr;
}

// As which dtype tokens are multiplied in float32, as routers need it: in their own where tile registers multiply it,
// which is just as exact.
constexpr DType float32_tokens(std::span<const GemmKernel> rows, DType tokens, const WeightFormat& format) {
  const GemmKernel* row = choose_gemm(rows, tokens, format);
  return row != nullptr && is_tiles(row->arithmetic) ? tokens : DType::f32;
}

}  // namespace moe::cpu
