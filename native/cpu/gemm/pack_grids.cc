#include "cpu/gemm/pack_grids.h"

#include <algorithm>
#include <array>

#include "core/formats/code_bytes.h"
#include "core/formats/dequantize.h"
#include "cpu/gemm/grid_units.h"
#include "cpu/gemm/weight_reader.h"

namespace moe::cpu {

namespace {

// Where a byte of signs goes: among its column's 16 in a unit of panel_codes.h, for the first or the second eight k; or
// among a pair's eight.
template <int coordinates>
constexpr int sign_bit(int half, int k) {
  return coordinates == 8 ? plane_bit(1, 8 * half + k) : pair_sign_bit(k);
}
using SignTable = std::array<std::array<uint16_t, 256>, 2>;
template <int coordinates>
inline constexpr SignTable kSignTable = [] {
  SignTable table{};
  for (int half = 0; half < 2; ++half) {
    for (int signs = 0; signs < 256; ++signs) {
      for (int k = 0; k < 8; ++k) {
        const int bit = (signs >> k & 1) << sign_bit<coordinates>(half, k);
        table[half][signs] = static_cast<uint16_t>(table[half][signs] | bit);
      }
    }
  }
  return table;
}();

// One column of a group. `group` is where it begins in the panel.
template <GridCodes codes>
class GroupColumn {
 public:
  using Group = GridGroup<codes>;
  static constexpr int kUnits = Group::kK / 8, kPointsOfUnit = 8 / codes.coordinates;

  GroupColumn(char* group, int columns, int column)
      : bytes_(reinterpret_cast<uint8_t*>(group)), columns_(columns), column_(column) {}

  // Into a group of zeros.
  void set(int index, uint32_t unit) const {
    for (int i = 0; i < kPointsOfUnit; ++i) {
      const int point = index * kPointsOfUnit + i, place = place_of(point);
      const uint32_t number = unit >> i * codes.number_bits;
      bytes_[number_of(point)] = static_cast<uint8_t>(number);
      for (int bit = 0; bit < Group::kUpperBits; ++bit) set_bit(upper_of(point, bit), place, number >> (8 + bit) & 1u);
    }
    const uint32_t signs = unit >> (codes.bits() - codes.sign_bits);
    if constexpr (Group::kOneSign) {
      set_bit(at(Group::kSigns + index), column_, signs & 1u);
    } else {
      const uint16_t placed = kSignTable<codes.coordinates>[index % 2][signs & 0xff];
      bytes_[signs_of(index)] |= static_cast<uint8_t>(placed);
      if constexpr (codes.coordinates == 8) bytes_[signs_of(index) + 1] |= static_cast<uint8_t>(placed >> 8);
    }
  }

  uint32_t get(int index) const {
    uint32_t unit = 0;
    for (int i = 0; i < kPointsOfUnit; ++i) {
      const int point = index * kPointsOfUnit + i, place = place_of(point);
      uint32_t number = bytes_[number_of(point)];
      for (int bit = 0; bit < Group::kUpperBits; ++bit) number |= get_bit(upper_of(point, bit), place) << (8 + bit);
      unit |= number << i * codes.number_bits;
    }
    if constexpr (Group::kOneSign) return unit | get_bit(at(Group::kSigns + index), column_) << (codes.bits() - 1);
    uint32_t placed = bytes_[signs_of(index)];
    if constexpr (codes.coordinates == 8) placed |= uint32_t{bytes_[signs_of(index) + 1]} << 8;
    for (int k = 0; k < 8; ++k) {
      const uint32_t sign = placed >> sign_bit<codes.coordinates>(index % 2, k) & 1u;
      unit |= sign << (codes.bits() - 8 + k);
    }
    return unit;
  }

 private:
  // The byte in which the columns' bits from `bits` on begin.
  int at(int bits) const { return bits * columns_ / 8; }
  int place_of(int point) const { return place_in_group(columns_, point / 2, column_); }
  int number_of(int point) const { return point % 2 * 2 * columns_ + place_of(point); }
  int upper_of(int point, int bit) const { return at(Group::kUpper + (2 * bit + point % 2) * 2); }
  int signs_of(int index) const {
    if (codes.coordinates == 8) return at(Group::kSigns) + 2 * (index / 2 * columns_ + column_);
    return at(Group::kSigns) + place_in_group(columns_, index, column_);
  }
  void set_bit(int first, int place, uint32_t bit) const {
    bytes_[first + place / 8] |= static_cast<uint8_t>(bit << place % 8);
  }
  uint32_t get_bit(int first, int place) const { return bytes_[first + place / 8] >> place % 8 & 1u; }

  uint8_t* const bytes_;
  const int columns_, column_;
};

template <GridCodes codes>
void pack(const PanelSource& source, char* panel) {
  using Group = GridGroup<codes>;
  constexpr int kUnits = GroupColumn<codes>::kUnits;
  // Units that are read of a column before the next column, so that the processor foresees the reads.
  constexpr int64_t kUnitsAtOnce = 128, kReadBeyond = sizeof(uint64_t);
  constexpr uint32_t kMask = (1u << codes.bits()) - 1u;
  const int64_t columns = source.panel_columns, group_bytes = Group::bytes(columns), units = source.padded_k / 8;
  std::memset(panel, 0, static_cast<size_t>(units / kUnits * group_bytes));
  for (int64_t first = 0; first < units; first += kUnitsAtOnce) {
    const int64_t count = std::min(kUnitsAtOnce, units - first);
    for (int64_t column = 0; column < columns; ++column) {
      const WeightView& weight = source.reader(column).weight();
      const int64_t row = source.row(column);
      // What is missing has any codes, as its scales, or the inputs that it multiplies, are zeros.
      if (row < 0 || row >= weight.rows) continue;
      uint8_t bytes[kUnitsAtOnce * codes.bits() / 8 + kReadBeyond] = {};
      const int64_t begin = first * codes.bits() / 8, left = weight.format->row_bytes(weight.columns) - begin;
      const auto* stored = static_cast<const uint8_t*>(weight.codes.data) + row * weight.codes.row_stride + begin;
      std::memcpy(bytes, stored, static_cast<size_t>(std::clamp<int64_t>(left, 0, count * codes.bits() / 8)));
      for (int64_t i = 0; i < count; ++i) {
        const GroupColumn<codes> group(panel + (first + i) / kUnits * group_bytes, static_cast<int>(columns),
                                       static_cast<int>(column));
        uint64_t unit;
        std::memcpy(&unit, bytes + i * codes.bits() / 8, sizeof unit);
        group.set(static_cast<int>(i % kUnits), static_cast<uint32_t>(unit >> i * codes.bits() % 8) & kMask);
      }
    }
  }
}

// The codes that units stand for, side by side: those of points, without signs, and what signs add.
template <GridCodes codes>
struct CodesOfUnits {
  static constexpr int kBits = codes.coordinate_bits() + 1;
  uint32_t points[codes.points()] = {}, signs[1 << codes.sign_bits] = {};

  CodesOfUnits() {
    constexpr uint32_t kNumberMask = codes.points() - 1u;
    for (uint32_t number = 0; number <= kNumberMask; ++number) {
      for (int k = 0; k < codes.coordinates; ++k) points[number] |= code_of_unit(codes, number, k) << k * kBits;
    }
    for (uint32_t sign = 0; sign < 1u << codes.sign_bits; ++sign) {
      for (int k = 0; k < 8; ++k) {
        const uint32_t own = codes.sign_bits == 1 ? sign : sign >> k & 1u;
        signs[sign] |= own << (k * kBits + kBits - 1);
      }
    }
  }
  uint32_t of(uint32_t unit) const {
    constexpr uint32_t kNumberMask = codes.points() - 1u;
    uint32_t found = points[unit & kNumberMask] | signs[unit >> (codes.bits() - codes.sign_bits)];
    if constexpr (codes.coordinates == 4) found |= points[unit >> codes.number_bits & kNumberMask] << 4 * kBits;
    return found;
  }
};

template <GridCodes codes>
void expand(const WeightView& weight, int64_t row, int64_t first, int64_t count, char* target) {
  static const CodesOfUnits<codes> table;
  for (int64_t unit = first; unit < first + count; ++unit, target += table.kBits) {
    const uint32_t eight = table.of(bits_of_row(weight.codes, row, unit * codes.bits(), codes.bits()));
    std::memcpy(target, &eight, table.kBits);
  }
}

}  // namespace

void expand_units(const WeightView& weight, int64_t row, int64_t first, int64_t count, char* codes) {
  with_grid(weight.format->grid.grid, [&]<GridCodes grid> { expand<grid>(weight, row, first, count, codes); });
}

void pack_grids(const PanelSource& source, char* codes) {
  with_grid(source.weight->weight().format->grid.grid, [&]<GridCodes grid> { pack<grid>(source, codes); });
}

void unpack_grids(const GridCodes& grid, const char* codes, int64_t columns, int64_t column, int64_t units,
                  uint8_t* row) {
  with_grid(grid.grid, [&]<GridCodes own> {
    constexpr int64_t kUnits = GroupColumn<own>::kUnits;
    write_codes(own.bits(), units, row, [&](int64_t unit) {
      char* group = const_cast<char*>(codes) + unit / kUnits * GridGroup<own>::bytes(columns);
      return GroupColumn<own>(group, static_cast<int>(columns), static_cast<int>(column))
          .get(static_cast<int>(unit % kUnits));
    });
  });
}

}  // namespace moe::cpu
