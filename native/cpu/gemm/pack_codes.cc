// The packer for panels of quantised formats. It moves bits and computes nothing, except that a matrix's scalar goes
// into its scales.
#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <utility>

#include "cpu/gemm/pack_grids.h"
#include "cpu/gemm/panel_codes.h"
#include "cpu/gemm/panel_writer.h"

namespace moe::cpu {

namespace {

static_assert(std::endian::native == std::endian::little);

// A byte of the codes of missing k: of zeros, if a table has a zero.
int missing_codes(const WeightFormat& format) {
  if (format.code != CodeType::table || format.bits != 4) return 0;
  const float* zero = std::find(format.table, format.table + 16, 0.0f);
  return zero == format.table + 16 ? 0 : 0x11 * static_cast<int>(zero - format.table);
}

// A row's codes are a dense stream of bits. Those of two units fill `bits` words.
template <int bits>
using UnitWords = std::array<uint32_t, bits>;

// The highest bit of every code of two units.
template <int bits>
constexpr UnitWords<bits> highest_bits() {
  UnitWords<bits> words = {};
  for (int bit = bits - 1; bit < 32 * bits; bit += bits) words[bit / 32] |= 1u << bit % 32;
  return words;
}

// A plane of one of two units: of its codes, `width` bits from bit `first` on.
struct Plane {
  int bits, unit, first, width;
};

// The bits that word `from` of both units has for word `to` of a plane, and that are `distance` further up there.
template <Plane plane>
constexpr uint32_t moved_up(int from, int to, int distance) {
  uint32_t moved = 0;
  for (int k = 0; k < kUnit; ++k) {
    for (int bit = 0; bit < plane.width; ++bit) {
      const int source = (plane.unit * kUnit + k) * plane.bits + plane.first + bit;
      const int target = plane_bit(plane.width, k) + bit;
      const bool matches = source / 32 == from && target / 32 == to && target % 32 - source % 32 == distance;
      if (matches) moved |= 1u << source % 32;
    }
  }
  return moved;
}

template <Plane plane, int from, int to, int distance>
uint32_t move_up(uint32_t word) {
  constexpr uint32_t moved = moved_up<plane>(from, to, distance);
  if constexpr (moved == 0) return 0;
  return std::rotl(word & moved, distance);
}

template <Plane plane, int from, int to>
uint32_t bits_of_word(const uint32_t* words, int64_t columns) {
  return [word = words[from * columns]]<int... i>(std::integer_sequence<int, i...>) {
    return (move_up<plane, from, to, i - 31>(word) | ...);
  }
  (std::make_integer_sequence<int, 63>());
}

// Word `to` of a plane of one column, whose words of both units are `columns` apart.
template <Plane plane, int to>
uint32_t plane_word(const uint32_t* words, int64_t columns) {
  return [&]<int... from>(std::integer_sequence<int, from...>) {
    return (bits_of_word<plane, from, to>(words, columns) | ...);
  }
  (std::make_integer_sequence<int, plane.bits>());
}

// Writes word `to` of a plane of all columns, and those that follow. Returns what comes after them.
template <Plane plane, int to = 0>
char* write_plane(const uint32_t* words, int64_t columns, char* target) {
  using Word = std::conditional_t<plane.width == 1, uint16_t, uint32_t>;
  auto* plane_words = reinterpret_cast<Word*>(target);
  for (int64_t column = 0; column < columns; ++column) {
    plane_words[column] = static_cast<Word>(plane_word<plane, to>(words + column, columns));
  }
  target += columns * int64_t{sizeof(Word)};
  if constexpr ((to + 1) * 32 < plane.width * kUnit) return write_plane<plane, to + 1>(words, columns, target);
  return target;
}

template <int bits, int unit>
char* write_unit(const uint32_t* words, int64_t columns, char* target) {
  constexpr int upper = upper_bits(bits), lower = bits - upper;
  target = write_plane<Plane{bits, unit, 0, lower}>(words, columns, target);
  if constexpr (upper != 0) target = write_plane<Plane{bits, unit, lower, upper}>(words, columns, target);
  return target;
}

// Codes of 8 bits: [k][column].
void write_bytes(const uint32_t* __restrict words, int64_t count, int64_t columns, uint8_t* __restrict target) {
  // Divides the number of columns.
  constexpr int64_t kAtOnce = 8;
  for (int64_t word = 0; word < count; ++word, target += 4 * columns) {
    for (int64_t column = 0; column < columns; column += kAtOnce, words += kAtOnce) {
      for (int64_t k = 0; k < 4; ++k) {
        uint8_t* bytes = target + k * columns + column;
        for (int64_t i = 0; i < kAtOnce; ++i) bytes[i] = static_cast<uint8_t>(words[i] >> 8 * k);
      }
    }
  }
}

template <int bits>
void pack_codes(const PanelSource& source, char* panel) {
  const int64_t columns = source.panel_columns;
  const WeightFormat& format = *source.weight->weight().format;
  const int missing = missing_codes(format);
  const auto read = [&](int64_t column, int64_t first, int64_t count, char* target) {
    const WeightView& weight = source.reader(column).weight();
    const int64_t row = source.row(column);
    const bool exists = row >= 0 && row < weight.rows;
    const int64_t row_bytes = ceil_divide(weight.columns * bits, 8);
    const int64_t present = exists ? std::clamp<int64_t>(row_bytes - first, 0, count) : 0;
    std::memset(target + present, missing, static_cast<size_t>(count - present));
    if (!exists) return;
    if constexpr (bits == 3 || bits == 4) {
      if (!format.grid.absent()) {
        return expand_units(weight, row, first / bits, ceil_divide(present, bits), target);
      }
    }
    const char* codes = static_cast<const char*>(weight.codes.data) + row * weight.codes.row_stride + first;
    std::memcpy(target, codes, static_cast<size_t>(present));
    if (flipped_bit(format) == 0) return;
    constexpr UnitWords<bits> kHighest = highest_bits<bits>();
    auto* words = reinterpret_cast<uint32_t*>(target);
    for (int64_t i = 0; 4 * i < count; i += bits) {
      for (int64_t j = 0; j < bits; ++j) words[i + j] ^= kHighest[j];
    }
  };
  constexpr int64_t kWords = PanelWriter::kMostWords / bits * bits;
  using Words = PanelWriter::Words;
  const auto arrange = [columns](const Words& words, Words& arranged) -> const Words& {
    const auto* from = reinterpret_cast<const uint32_t*>(words.bytes);
    if constexpr (bits == 8) {
      write_bytes(from, kWords, columns, reinterpret_cast<uint8_t*>(arranged.bytes));
    } else {
      char* to = arranged.bytes;
      for (int64_t word = 0; word < kWords; word += bits, from += bits * columns) {
        to = write_unit<bits, 0>(from, columns, to);
        to = write_unit<bits, 1>(from, columns, to);
      }
    }
    return arranged;
  };
  PanelWriter(source, panel).pack_rows<kWords>(source.padded_k * bits / 8, read, arrange);
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

// Numbers of odd4.
void pack_odd4(const PanelLevel& target, const MatrixView& values, const char* from, int64_t panel_columns, char* to) {
  const int64_t groups = std::min(target.groups, values.columns);
  for (int64_t group = 0; group < groups; ++group) {
    const int number = from[group] & 15;
    if (target.type == ScaleType::odd4) {
      char& pair = to[group / 2 * panel_columns];
      pair = static_cast<char>(pair | number << group % 2 * 4);
    } else {
      to[group * panel_columns] = static_cast<char>(odd4_value(static_cast<uint32_t>(number)));
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
  if (level.type == ScaleType::odd4) return pack_odd4(target, values, from, source.panel_columns, to);
  switch (bytes) {
    case 1: return pack_values<1>(target, values, from, scalar, source.panel_columns, to);
    case 2: return pack_values<2>(target, values, from, scalar, source.panel_columns, to);
    default: return pack_values<4>(target, values, from, scalar, source.panel_columns, to);
  }
}

void pack_scales(const PanelSource& source, char* panel) {
  const PanelLevels& levels = *source.levels;
  // Missing rows have scales and offsets of zero; missing k do, too, unless their row's scales have an offset.
  std::memset(panel, 0, static_cast<size_t>(levels.bytes));
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
    const bool offsets_scales = format.offset == Offset::scale_offset;
    pack(levels.super_scales, format.super_scales, weight.super_scales, super ? weight.scalar : 1.0f);
    pack(levels.scales, format.scales, weight.scales, super ? 1.0f : weight.scalar);
    pack(levels.super_zeros, format.super_zeros(), weight.super_zeros, offsets_scales ? weight.scalar : 1.0f);
    pack(levels.zeros, format.scales, weight.zeros, 1.0f);
  }
}

}  // namespace

void pack_coded_panel(const PanelSource& source, char* panel) {
  pack_scales(source, panel);
  char* codes = panel + source.levels->bytes;
  switch (source.weight->weight().format->bits) {
    case 2: return pack_codes<2>(source, codes);
    case 3: return pack_codes<3>(source, codes);
    case 4: return pack_codes<4>(source, codes);
    case 5: return pack_codes<5>(source, codes);
    case 6: return pack_codes<6>(source, codes);
    default: return pack_codes<8>(source, codes);
  }
}

void pack_grid_panel(const PanelSource& source, char* panel) {
  pack_scales(source, panel);
  pack_grids(source, panel + source.levels->bytes);
}

}  // namespace moe::cpu
