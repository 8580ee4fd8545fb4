#include "cpu/gemm/pack_grids.h"

#include <algorithm>

#include "core/formats/code_bytes.h"
#include "cpu/gemm/grid_units.h"
#include "cpu/gemm/weight_reader.h"

namespace moe::cpu {

namespace {

// Where a byte of signs goes among its column's 16, for the first and the second eight k of a unit of panel_codes.h.
using SignTable = std::array<std::array<uint16_t, 256>, 2>;
template <int coordinates>
inline constexpr SignTable kSignTable = [] {
  SignTable table{};
  for (int half = 0; half < 2; ++half) {
    for (int signs = 0; signs < 256; ++signs) {
      for (int k = 0; k < 8; ++k) {
        const int bit = (signs >> k & 1) << sign_bit_of(coordinates, 8 * half + k);
        table[half][signs] = static_cast<uint16_t>(table[half][signs] | bit);
      }
    }
  }
  return table;
}();

// Steps whose units are read of a column before the next column, so that the processor foresees the reads.
constexpr int64_t kStepsAtOnce = 16;

// The units of one column and step.
template <GridCodes codes>
void pack_step(const uint8_t* units, int64_t columns, int64_t column, char* step) {
  using Step = GridStep<codes>;
  constexpr int kBits = codes.bits(), kPointsOfUnit = 8 / codes.coordinates;
  std::array<uint16_t, Step::kFields + 1> fields{};
  std::array<uint16_t, kGridStep / kUnit> signs{};
#pragma GCC unroll 8
  for (int i = 0; i < Step::kUnits; ++i) {
    uint64_t unit;
    std::memcpy(&unit, units + i * kBits / 8, sizeof unit);
    unit >>= i * kBits % 8;
#pragma GCC unroll 2
    for (int j = 0; j < kPointsOfUnit; ++j) {
      const int point = i * kPointsOfUnit + j;
      const uint64_t number = unit >> j * codes.number_bits;
      step[point * columns + column] = static_cast<char>(number);
      const uint64_t upper = number >> 8 & ((1u << Step::kUpperBits) - 1u);
      uint16_t& field = fields[point / Step::kFieldPoints];
      field = static_cast<uint16_t>(field | upper << point % Step::kFieldPoints * Step::kUpperBits);
    }
    if constexpr (codes.sign_bits == 8) {
      const uint16_t placed = kSignTable<codes.coordinates>[i % 2][unit >> (kBits - 8) & 0xff];
      signs[i / 2] = static_cast<uint16_t>(signs[i / 2] | placed);
    }
  }
  for (int i = 0; i < Step::kFields; ++i) {
    constexpr int64_t kBytes = Step::kFieldBytes;
    std::memcpy(step + (Step::kUpper + i * kBytes) * columns + column * kBytes, &fields[i], kBytes);
  }
  if constexpr (codes.sign_bits == 1) return;
  for (int64_t i = 0; i < std::ssize(signs); ++i) {
    std::memcpy(step + (Step::kSigns + 2 * i) * columns + 2 * column, &signs[i], sizeof signs[i]);
  }
}

template <GridCodes codes>
void pack(const PanelSource& source, char* panel) {
  constexpr int64_t kStepBytes = codes.bits() * GridStep<codes>::kUnits / 8;  // of a row
  constexpr int64_t kReadBeyond = sizeof(uint64_t);
  const int64_t columns = source.panel_columns, bytes_of_step = columns * GridStep<codes>::kBytes;
  const int64_t steps = source.padded_k / kGridStep;
  for (int64_t first = 0; first < steps; first += kStepsAtOnce) {
    const int64_t count = std::min(kStepsAtOnce, steps - first);
    for (int64_t column = 0; column < columns; ++column) {
      const WeightView& weight = source.reader(column).weight();
      const int64_t row = source.row(column);
      // What is missing has any codes, as its scales, or the inputs that it multiplies, are zeros.
      uint8_t units[kStepsAtOnce * kStepBytes + kReadBeyond] = {};
      if (row >= 0 && row < weight.rows) {
        const int64_t begin = first * kStepBytes;
        const int64_t left = weight.format->row_bytes(weight.columns) - begin;
        const auto* codes_of_row = static_cast<const uint8_t*>(weight.codes.data) + row * weight.codes.row_stride;
        std::memcpy(units, codes_of_row + begin, static_cast<size_t>(std::clamp<int64_t>(left, 0, count * kStepBytes)));
      }
      for (int64_t i = 0; i < count; ++i) {
        pack_step<codes>(units + i * kStepBytes, columns, column, panel + (first + i) * bytes_of_step);
      }
    }
  }
}

// Unit `index` of one column and step.
template <GridCodes codes>
uint32_t unit_of(const char* step, int64_t columns, int64_t column, int index) {
  using Step = GridStep<codes>;
  constexpr int kPointsOfUnit = 8 / codes.coordinates;
  uint32_t unit = 0;
  for (int j = 0; j < kPointsOfUnit; ++j) {
    const int point = index * kPointsOfUnit + j, field = point / Step::kFieldPoints;
    uint32_t number = static_cast<uint8_t>(step[point * columns + column]);
    if constexpr (Step::kFields > 0) {
      constexpr int64_t kBytes = Step::kFieldBytes;
      uint16_t bits = 0;
      std::memcpy(&bits, step + (Step::kUpper + field * kBytes) * columns + column * kBytes, kBytes);
      const uint32_t upper = uint32_t{bits} >> point % Step::kFieldPoints * Step::kUpperBits;
      number |= (upper & ((1u << Step::kUpperBits) - 1u)) << 8;
    }
    unit |= number << j * codes.number_bits;
  }
  if constexpr (codes.sign_bits == 8) {
    uint16_t signs;
    std::memcpy(&signs, step + (Step::kSigns + index / 2 * 2) * columns + 2 * column, sizeof signs);
    for (int k = 0; k < 8; ++k) {
      const uint32_t sign = signs >> sign_bit_of(codes.coordinates, index % 2 * 8 + k) & 1u;
      unit |= sign << (codes.bits() - 8 + k);
    }
  }
  return unit;
}

}  // namespace

void pack_grids(const PanelSource& source, char* codes) {
  with_grid(source.weight->weight().format->grid.grid, [&]<GridCodes grid> { pack<grid>(source, codes); });
}

void unpack_grids(const GridCodes& grid, const char* codes, int64_t columns, int64_t column, int64_t units,
                  uint8_t* row) {
  with_grid(grid.grid, [&]<GridCodes own> {
    constexpr int64_t kUnits = GridStep<own>::kUnits;
    write_codes(own.bits(), units, row, [&](int64_t unit) {
      const char* step = codes + unit / kUnits * columns * GridStep<own>::kBytes;
      return unit_of<own>(step, columns, column, static_cast<int>(unit % kUnits));
    });
  });
}

}  // namespace moe::cpu
