// The reverse of pack_codes.cc.
#include "cpu/gemm/unpack_field.h"

#include <algorithm>
#include <cstring>
#include <string>
#include <vector>

#include "core/formats/code_bytes.h"
#include "core/formats/dequantize.h"
#include "cpu/gemm/pack_grids.h"
#include "cpu/gemm/panel_codes.h"

namespace moe::cpu {

namespace {

// A plane's bits of code k of a unit; see panel_codes.h.
template <int width>
uint32_t bits_of(const char* plane, int64_t columns, int64_t column, int k) {
  const int bit = plane_bit(width, k);
  if constexpr (width == 1) {
    uint16_t half;
    std::memcpy(&half, plane + column * 2, sizeof half);
    return half >> bit & 1u;
  } else {
    uint32_t word;
    std::memcpy(&word, plane + (bit / 32 * columns + column) * 4, sizeof word);
    return word >> bit % 32 & ((1u << width) - 1u);
  }
}

template <int bits>
uint32_t code_of(const char* unit, int64_t columns, int64_t column, int k) {
  if constexpr (bits == 8)
    return static_cast<uint8_t>(unit[k * columns + column]);
  else {
    constexpr int upper = upper_bits(bits), lower = bits - upper;
    uint32_t code = bits_of<lower>(unit, columns, column, k);
    if constexpr (upper != 0) code |= bits_of<upper>(unit + 2 * lower * columns, columns, column, k) << lower;
    return code;
  }
}

// One column's codes as a row of bytes.
template <int bits>
void copy_column(const char* codes, int64_t columns, int64_t column, int64_t count, uint32_t flipped, uint8_t* row) {
  constexpr int64_t unit_bytes = kUnit * bits / 8;
  write_codes(bits, count, row, [&](int64_t k) {
    const char* unit = codes + k / kUnit * unit_bytes * columns;
    return code_of<bits>(unit, columns, column, static_cast<int>(k % kUnit)) ^ flipped;
  });
}

using CopyColumn = void (*)(const char*, int64_t, int64_t, int64_t, uint32_t, uint8_t*);

CopyColumn copy_column_of(int bits) {
  switch (bits) {
    case 2: return copy_column<2>;
    case 3: return copy_column<3>;
    case 4: return copy_column<4>;
    case 5: return copy_column<5>;
    case 6: return copy_column<6>;
    default: return copy_column<8>;
  }
}

// Units of grids from a row that has a code for each column.
void write_units(const WeightFormat& format, const uint8_t* single, int64_t columns, uint8_t* units) {
  const MatrixView row = dense_matrix(single, DType::u8, 1, ceil_divide(columns * format.bits, 8));
  write_codes(format.grid.bits(), ceil_divide(columns, 8), units, [&](int64_t unit) {
    return unit_of_codes(format.grid, static_cast<int>(std::min<int64_t>(8, columns - 8 * unit)),
                         [&](int place) { return bits_of_row(row, 0, (8 * unit + place) * format.bits, format.bits); });
  });
}

// An expert's packed matrix, and the first column of a panel that belongs to this half of it.
struct Source {
  const CpuPackedExperts& packed;
  const char* data;
  int64_t first_column;

  const PanelLayout& layout() const { return packed.layout(); }
  const ExpertProduct& product() const { return packed.weights(); }
  const char* panel_of(int64_t row) const { return data + row / layout().outputs_per_panel * layout().panel_bytes; }
  int64_t column_of(int64_t row) const { return first_column + row % layout().outputs_per_panel; }
};

void copy_codes(const Source& source, const Team& team, const TensorView& target) {
  const ExpertProduct& product = source.product();
  const WeightFormat& format = *product.format;
  const PanelLayout& layout = source.layout();
  const int64_t columns = layout.panel_columns, row_bytes = format.row_bytes(product.columns);
  const CopyColumn copy = copy_column_of(format.bits);
  team.for_range(product.outputs(), 16, [&](int64_t begin, int64_t end) {
    std::vector<uint8_t> single;
    for (int64_t row = begin; row < end; ++row) {
      const char* codes = source.panel_of(row) + layout.place_of(0);
      const int64_t column = source.column_of(row);
      uint8_t* to = target.as<uint8_t>() + row * row_bytes;
      if (format.grid.absent()) {
        copy(codes, columns, column, product.columns, flipped_bit(format), to);
      } else if (layout.grid.absent()) {
        single.resize(static_cast<size_t>(ceil_divide(product.columns * format.bits, 8)));
        copy(codes, columns, column, product.columns, 0, single.data());
        write_units(format, single.data(), product.columns, to);
      } else {
        unpack_grids(format.grid, codes, columns, column, ceil_divide(product.columns, 8), to);
      }
    }
  });
}

void copy_level(const Source& source, QuantizedField field, const TensorView& target) {
  const ExpertProduct& product = source.product();
  const PanelLevels& levels = source.layout().levels;
  const PanelLevel& level = field == QuantizedField::scales        ? levels.scales
                            : field == QuantizedField::superScales ? levels.super_scales
                            : field == QuantizedField::zeros       ? levels.zeros
                                                                   : levels.super_zeros;
  const ScaleLevel stored = level_of(*product.format, field);
  // A scale of four bits shares its byte with a minimum, or with the scale of another group.
  const bool with_minimum = field == QuantizedField::scales && levels.zeros.upper;
  const bool paired = level.type == ScaleType::odd4, has_values = stored.type == ScaleType::odd4 && !paired;
  const auto stored_byte = [&](uint8_t byte, int64_t group) -> uint8_t {
    if (has_values) return byte >> 1;
    if (level.upper || (paired && group % 2 != 0)) return byte >> 4;
    return with_minimum || paired ? byte & 15 : byte;
  };
  const int64_t bytes = scale_bytes(level.type), row_step = stored.rows;
  const FieldSize size = size_of_field(*product.format, field, product.outputs(), product.columns);
  char* to = target.as<char>();
  for (int64_t row = 0; row < size.rows; ++row) {
    const char* from = source.panel_of(row * row_step) + level.at;
    const int64_t column = source.column_of(row * row_step);
    for (int64_t group = 0; group < size.columns; ++group, to += bytes) {
      const int64_t place = paired ? group / 2 : group;
      std::memcpy(to, from + (place * source.layout().panel_columns + column) * bytes, static_cast<size_t>(bytes));
      if (bytes == 1) *to = static_cast<char>(stored_byte(static_cast<uint8_t>(*to), group));
    }
  }
}

// One expert's values of those of all experts; value_of(k) where there are none.
template <class Value, class Default>
void copy_inputs(const Buffer& values, int64_t expert, const TensorView& target, Default&& value_of) {
  const int64_t columns = target.size();
  for (int64_t k = 0; k < columns; ++k) {
    target.as<Value>()[k] =
        values.data() == nullptr ? value_of(k) : reinterpret_cast<const Value*>(values.data())[expert * columns + k];
  }
}

}  // namespace

Status unpack_field(const CpuPackedExperts& packed, int64_t expert, bool up, QuantizedField field, const Team& team,
                    const TensorView& target) {
  const PanelLayout& layout = packed.layout();
  if (layout.levels.scales.absent()) {
    return {Code::unsupported_operation, std::string("copyField: expected panels of codes and scales, got those of ") +
                                             packed.weights().format->name};
  }
  MOE_TRY(packed.check(std::vector{static_cast<int32_t>(expert)}));
  const Source source{.packed = packed,
                      .data = packed.data() + expert * layout.expert_bytes(),
                      .first_column = up ? layout.outputs_per_panel : 0};
  const ExpertInputs& inputs = packed.inputs();
  switch (field) {
    case QuantizedField::codes: copy_codes(source, team, target); break;
    case QuantizedField::inputScale:
      copy_inputs<float>(inputs.scales, expert, target, [](int64_t) { return 1.0f; });
      break;
    case QuantizedField::inputOrder:
      copy_inputs<int32_t>(inputs.orders, expert, target, [](int64_t k) { return static_cast<int32_t>(k); });
      break;
    default: copy_level(source, field, target);
  }
  return {};
}

}  // namespace moe::cpu
