#include "cpu/gemm/grid_units.h"

#include <memory>
#include <vector>

#include "check.h"
#include "core/formats/dequantize.h"
#include "core/formats/named.h"
#include "cpu/gemm/panels.h"
#include "cpu/gemm/unpack_field.h"
#include "cpu/isa/isa.h"
#include "random.h"
#include "random_weight.h"

namespace {

using namespace moe;
using namespace moe::cpu;

std::vector<const WeightFormat*> grid_formats() {
  std::vector<const WeightFormat*> formats;
  for (const WeightFormat* format : kNamedFormats) {
    if (!format->grid.absent()) formats.push_back(format);
  }
  return formats;
}

// Code k of a column of expanded codes, straight from the description of panel_codes.h.
uint32_t expanded_code(const char* codes, const WeightFormat& format, int64_t columns, int64_t column, int64_t k) {
  const char* unit = codes + k / kUnit * (kUnit * format.bits / 8 * columns);
  const int within = static_cast<int>(k % kUnit), lower = format.bits == 3 ? 2 : 4, bit = plane_bit(lower, within);
  uint32_t word;
  std::memcpy(&word, unit + (bit / 32 * columns + column) * 4, sizeof word);
  const uint32_t code = word >> bit % 32 & ((1u << lower) - 1u);
  if (format.bits != 3) return code;
  uint16_t half;
  std::memcpy(&half, unit + 4 * columns + 2 * column, sizeof half);
  return code | (half >> plane_bit(1, within) & 1u) << 2;
}

struct Packed {
  Packed(test::Random& random, const Kernels& kernels, const WeightFormat& format, int64_t rows, int64_t columns)
      : weight(random, format, rows, columns) {
    const ExpertProduct product{.experts = 1, .rows = rows, .columns = columns, .format = &format};
    MOE_CHECK(CpuPackedExperts::create(product, kernels, team, true, &experts).ok());
    MOE_CHECK(experts->set_expert(0, weight.view(), {}).ok());
  }

  const Team team{ThreadPool::shared(), 2};
  test::RandomWeight weight;
  std::unique_ptr<CpuPackedExperts> experts;
};

constexpr int64_t kRows = 37;

// Calls check(packed, kernels) for matrices of kRows in all formats of grids.
template <class Check>
void for_each_packed(uint64_t seed, Check&& check) {
  test::Random random(seed);
  for (const Kernels* kernels : available_kernels()) {
    for (const WeightFormat* format : grid_formats()) {
      for (const int64_t columns : {1, 72, 256, 290}) {
        check(Packed(random, *kernels, *format, kRows, columns), *kernels);
      }
    }
  }
}

}  // namespace

MOE_TEST(points_ascend_and_units_are_those_of_their_codes) {
  for (const WeightFormat* format : grid_formats()) {
    const GridCodes& grid = format->grid;
    const uint16_t* points = grid_points(grid.grid);
    for (uint32_t i = 1; i < grid.points(); ++i) MOE_CHECK(points[i] > points[i - 1]);
    test::Random random(7);
    for (int i = 0; i < 2000; ++i) {
      const auto unit = static_cast<uint32_t>(random.below(1 << grid.bits()));
      const auto code = [&](int place) { return code_of_unit(grid, unit, place); };
      MOE_CHECK_EQUAL(unit_of_codes(grid, 8, code), unit);
      // Of fewer codes, a unit that has them.
      const int count = 1 + static_cast<int>(random.below(7));
      const uint32_t some = unit_of_codes(grid, count, code);
      for (int place = 0; place < count; ++place) MOE_CHECK_EQUAL(code_of_unit(grid, some, place), code(place));
    }
  }
}

MOE_TEST(units_in_panels_become_their_codes_and_come_back) {
  for_each_packed(8, [](const Packed& packed, const Kernels& kernels) {
    const WeightFormat& format = *packed.weight.view().format;
    const int64_t columns = packed.weight.view().columns;
    const PanelLayout& layout = packed.experts->layout();
    std::vector<char> expanded(static_cast<size_t>(layout.expanded_bytes(layout.padded_k)));
    for (int64_t row = 0; row < kRows; ++row) {
      const char* panel = packed.experts->data() + row / layout.panel_columns * layout.panel_bytes;
      const char* codes = layout.parts(kernels, panel, 0, layout.padded_k, expanded.data()).codes;
      MOE_CHECK((kernels.expand_grids == nullptr) == layout.grid.absent());
      for (int64_t k = 0; k < columns; ++k) {
        MOE_CHECK_EQUAL(expanded_code(codes, format, layout.panel_columns, row % layout.panel_columns, k),
                        code_bits(format, packed.weight.view().codes, row, k));
      }
    }
    std::vector<uint8_t> back(static_cast<size_t>(kRows * format.row_bytes(columns)));
    const TensorView target{
        .data = back.data(), .dtype = DType::u8, .rank = 2, .shape = {kRows, format.row_bytes(columns)}};
    MOE_CHECK(unpack_field(*packed.experts, 0, false, QuantizedField::codes, packed.team, target).ok());
    const MatrixView& given = packed.weight.view().codes;
    const MatrixView copied = dense_matrix(back.data(), DType::u8, kRows, format.row_bytes(columns));
    for (int64_t row = 0; row < kRows; ++row) {
      for (int64_t k = 0; k < columns; ++k) {
        MOE_CHECK_EQUAL(code_bits(format, copied, row, k), code_bits(format, given, row, k));
      }
    }
  });
}

MOE_TEST(scales_in_panels_become_their_values_and_come_back) {
  for_each_packed(9, [](const Packed& packed, const Kernels& kernels) {
    const PanelLayout& layout = packed.experts->layout();
    const MatrixView& given = packed.weight.view().scales;
    std::vector<char> expanded(static_cast<size_t>(layout.expanded_bytes(layout.padded_k)));
    for (int64_t row = 0; row < kRows; ++row) {
      const char* panel = packed.experts->data() + row / layout.panel_columns * layout.panel_bytes;
      const PanelParts parts = layout.parts(kernels, panel, 0, layout.padded_k, expanded.data());
      const char* scales = parts.scales + layout.scales.scales.at + row % layout.panel_columns;
      for (int64_t group = 0; group < given.columns; ++group) {
        MOE_CHECK_EQUAL(int{scales[group * layout.panel_columns]}, odd4_value(element_bits(given, 1, row, group)));
      }
    }
    std::vector<uint8_t> back(static_cast<size_t>(kRows * given.columns));
    const TensorView target{.data = back.data(), .dtype = DType::u8, .rank = 2, .shape = {kRows, given.columns}};
    MOE_CHECK(unpack_field(*packed.experts, 0, false, QuantizedField::scales, packed.team, target).ok());
    for (int64_t i = 0; i < kRows * given.columns; ++i) {
      MOE_CHECK_EQUAL(int{back[i]}, static_cast<const uint8_t*>(given.data)[i] & 15);
    }
  });
}

MOE_TEST(panels_of_grids_take_the_bits_of_their_units_and_scales) {
  for (const WeightFormat* format : grid_formats()) {
    const PanelFormat panels = grid_panels(*format);
    MOE_CHECK_EQUAL(panels.column_bytes, panels.step * format->grid.bits() / 64);
    constexpr int64_t kColumns = 32, kK = 512;
    const int64_t scales = kK / format->scales.columns, super_scales = kK / 256;
    MOE_CHECK_EQUAL(panel_levels(*format, kColumns, kK, true).bytes, kColumns * (scales / 2 + 2 * super_scales));
    MOE_CHECK_EQUAL(panel_levels(*format, kColumns, kK, false).bytes, kColumns * (scales + 2 * super_scales));
  }
}
