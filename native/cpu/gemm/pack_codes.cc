// The packer for panels of quantised formats. It moves bits and computes nothing, except that a matrix's scalar goes
// into its scales.
#include <algorithm>
#include <bit>
#include <cstring>

#include "core/divide.h"
#include "core/formats/weight_view.h"
#include "cpu/gemm/panel_codes.h"
#include "cpu/gemm/panel_format.h"
#include "cpu/gemm/weight_reader.h"

namespace moe::cpu {

namespace {

static_assert(std::endian::native == std::endian::little);

// The codes of a unit as they are stored: a dense stream of bits.
struct Stream {
  uint64_t words[2] = {};
};

// The first `bytes` bytes, at most eight, as a word: without a detour over memory, where a load that is longer than the
// store before it would wait.
template <int64_t bytes>
uint64_t word_of(const char* p) {
  if constexpr (bytes >= 8) {
    uint64_t word;
    std::memcpy(&word, p, 8);
    return word;
  }
  uint32_t low = 0;
  uint16_t high = 0;
  if constexpr ((bytes & 4) != 0) std::memcpy(&low, p, 4);
  if constexpr ((bytes & 2) != 0) std::memcpy(&high, p + (bytes & 4), 2);
  return low | uint64_t{high} << (bytes & 4) * 8;
}

// The highest bit of every code of a unit.
constexpr Stream highest_bits(int bits) {
  Stream stream;
  for (int k = 0; k < kUnit; ++k) {
    const int bit = k * bits + bits - 1;
    stream.words[bit / 64] |= uint64_t{1} << bit % 64;
  }
  return stream;
}

// A byte of the codes of missing k: of zeros, if a table has a zero.
int missing_codes(const WeightFormat& format) {
  if (format.code != CodeType::table || format.bits != 4) return 0;
  const float* zero = std::find(format.table, format.table + 16, 0.0f);
  return zero == format.table + 16 ? 0 : 0x11 * static_cast<int>(zero - format.table);
}

constexpr int kQuads = kUnit / 4;

// Four consecutive codes in the bytes of a word, as plane_bit() orders them.
template <int bits>
uint32_t quad_of(const Stream& codes, int quad) {
  constexpr uint32_t mask = (1u << bits) - 1u;
  const int first = 4 * bits * quad, word = first / 64, shift = first % 64;
  uint64_t stream = codes.words[word] >> shift;
  if (shift + 4 * bits > 64) stream |= codes.words[word + 1] << (64 - shift);
  const uint32_t four = static_cast<uint32_t>(stream);
  return (four & mask) | (four >> 2 * bits & mask) << 8 | (four >> bits & mask) << 16 | (four >> 3 * bits & mask) << 24;
}

// The plane of `width` bits of each code, from bit `first` of the code on, as one column's words. See plane_bit().
template <int width, int first>
uint64_t plane_of(const uint32_t (&quads)[kQuads]) {
  constexpr uint32_t mask = 0x01010101u * ((1u << width) - 1u);
  constexpr int quads_of_word = width == 1 ? kQuads : 8 / width;
  uint64_t plane = 0;
#pragma GCC unroll 4
  for (int quad = 0; quad < kQuads; ++quad) {
    plane |= uint64_t{quads[quad] >> first & mask} << (quad / quads_of_word * 32 + quad % quads_of_word * width);
  }
  return width == 1 ? plane | plane >> 12 : plane;
}

template <int width>
void store_plane(uint64_t plane, int64_t columns, int64_t column, char* target) {
  if constexpr (width == 1) {
    std::memcpy(target + column * 2, &plane, 2);
  } else {
    for (int word = 0; word < width / 2; ++word, plane >>= 32) {
      std::memcpy(target + (word * columns + column) * 4, &plane, 4);
    }
  }
}

template <int bits>
void store_unit(const Stream& codes, int64_t columns, int64_t column, char* unit) {
  if constexpr (bits == 8) {
    const char* bytes = reinterpret_cast<const char*>(codes.words);
    for (int k = 0; k < kUnit; ++k) unit[k * columns + column] = bytes[k];
  } else {
    constexpr int upper = upper_bits(bits), lower = bits - upper;
    uint32_t quads[kQuads];
#pragma GCC unroll 4
    for (int quad = 0; quad < kQuads; ++quad) quads[quad] = quad_of<bits>(codes, quad);
    store_plane<lower>(plane_of<lower, 0>(quads), columns, column, unit);
    if constexpr (upper != 0) {
      store_plane<upper>(plane_of<upper, lower>(quads), columns, column, unit + 2 * lower * columns);
    }
  }
}

template <int bits>
void pack_codes(const PanelSource& source, char* panel) {
  // Units of a column that are placed before the next column's turn, so that cache lines are used up while they are in
  // the first-level cache.
  constexpr int64_t kUnitsAtOnce = 16;
  constexpr int64_t unit_bytes = kUnit * bits / 8;
  constexpr Stream kHighest = highest_bits(bits);
  const int64_t columns = source.panel_columns;
  const int64_t units = source.padded_k / kUnit;
  for (int64_t begin = 0; begin < units; begin += kUnitsAtOnce) {
    for (int64_t column = 0; column < columns; ++column) {
      const WeightView& weight = source.reader(column).weight();
      const int64_t row = source.row(column);
      if (row < 0 || row >= weight.rows) continue;
      const bool flips = flipped_bit(*weight.format) != 0;
      const int64_t row_bytes = weight.format->row_bytes(weight.columns);
      const char* codes = static_cast<const char*>(weight.codes.data) + row * weight.codes.row_stride;
      const int64_t end = std::min({units, begin + kUnitsAtOnce, ceil_divide(row_bytes, unit_bytes)});
      for (int64_t unit = begin; unit < end; ++unit) {
        const int64_t present = row_bytes - unit * unit_bytes;
        const char* from = codes + unit * unit_bytes;
        char last[unit_bytes];
        if (present < unit_bytes) {
          std::memset(last, missing_codes(*weight.format), sizeof last);
          from = static_cast<char*>(std::memcpy(last, from, static_cast<size_t>(present)));
        }
        Stream stream{
            {word_of<unit_bytes>(from), unit_bytes > 8 ? word_of<std::max<int64_t>(0, unit_bytes - 8)>(from + 8) : 0}};
        if (flips) {
          stream.words[0] ^= kHighest.words[0];
          stream.words[1] ^= kHighest.words[1];
        }
        store_unit<bits>(stream, columns, column, panel + unit * unit_bytes * columns);
      }
    }
  }
}

// One column's values of a level, which take `bytes` bytes each.
template <int64_t bytes>
void pack_values(const PanelLevel& target, const MatrixView& values, const char* from, float scalar,
                 int64_t panel_columns, char* to) {
  const int64_t groups = std::min(target.groups, values.columns);
  for (int64_t group = 0; group < groups; ++group, to += panel_columns * bytes) {
    const char* value = from + group * bytes;
    if (scalar != 1.0f) {
      float scaled = 0;
      std::memcpy(&scaled, value, std::min<size_t>(bytes, sizeof scaled));
      scaled *= scalar;
      std::memcpy(to, &scaled, std::min<size_t>(bytes, sizeof scaled));
    } else if (target.upper) {
      *to = static_cast<char>(*to | *value << 4);
    } else {
      std::memcpy(to, value, bytes);
    }
  }
}

// The scalar is 1 unless the level is float32.
void pack_level(const PanelLevel& target, const ScaleLevel& level, const MatrixView& values, float scalar, int64_t row,
                const PanelSource& source, int64_t column, char* panel) {
  if (target.absent()) return;
  const int64_t bytes = scale_bytes(target.type);
  const char* from = static_cast<const char*>(values.data) + row / level.rows * values.row_stride * bytes;
  char* to = panel + target.at + column * bytes;
  switch (bytes) {
    case 1: return pack_values<1>(target, values, from, scalar, source.panel_columns, to);
    case 2: return pack_values<2>(target, values, from, scalar, source.panel_columns, to);
    default: return pack_values<4>(target, values, from, scalar, source.panel_columns, to);
  }
}

void pack_scales(const PanelSource& source, char* panel) {
  const PanelScales& scales = *source.scales;
  for (int64_t column = 0; column < source.panel_columns; ++column) {
    const WeightView& weight = source.reader(column).weight();
    const int64_t row = source.row(column);
    if (row < 0 || row >= weight.rows) continue;
    const WeightFormat& format = *weight.format;
    // Of the two levels, float32 holds the scalar without loss.
    const bool super = format.super_scales.type == ScaleType::f32 && !format.super_scales.absent();
    const auto pack = [&](const PanelLevel& target, const ScaleLevel& level, const MatrixView& values, float scalar) {
      pack_level(target, level, values, scalar, row, source, column, panel);
    };
    pack(scales.super_scales, format.super_scales, weight.super_scales, super ? weight.scalar : 1.0f);
    pack(scales.scales, format.scales, weight.scales, super ? 1.0f : weight.scalar);
    pack(scales.super_zeros, format.super_zeros(), weight.super_zeros, scales.offsets_scales ? weight.scalar : 1.0f);
    pack(scales.zeros, format.scales, weight.zeros, 1.0f);
  }
}

}  // namespace

void pack_coded_panel(const PanelSource& source, char* panel) {
  const WeightFormat& format = *source.weight->weight().format;
  const int bits = format.bits;
  const int64_t code_bytes = source.padded_k * bits / 8 * source.panel_columns;
  char* codes = panel + source.scales->bytes;
  // Missing rows keep scales and offsets of zero; missing k do, too, unless their row's scales have an offset.
  std::memset(panel, 0, static_cast<size_t>(source.scales->bytes));
  std::memset(codes, missing_codes(format), static_cast<size_t>(code_bytes));
  pack_scales(source, panel);
  switch (bits) {
    case 2: return pack_codes<2>(source, codes);
    case 3: return pack_codes<3>(source, codes);
    case 4: return pack_codes<4>(source, codes);
    case 5: return pack_codes<5>(source, codes);
    case 6: return pack_codes<6>(source, codes);
    default: return pack_codes<8>(source, codes);
  }
}

}  // namespace moe::cpu
