#include <cstring>

#include "core/formats/dequantize.h"
#include "cpu/gemm/weight_reader.h"

namespace moe::cpu {

void pack_test_u4_g16_panel(const PanelSource& source, char* panel) {
  const WeightFormat& format = kTestU4G16Format;
  const int64_t columns = source.panel_columns;
  const int64_t step_bytes = columns * kTestU4G16ColumnBytes;
  std::memset(panel, 0, static_cast<size_t>(source.padded_k / 16 * step_bytes));
  for (int64_t first = 0; first < source.padded_k; first += 16) {
    char* step = panel + first / 16 * step_bytes;
    for (int64_t column = 0; column < columns; ++column) {
      const WeightView& weight = source.reader(column).weight();
      const int64_t row = source.row(column);
      if (row < 0 || row >= weight.rows || first >= weight.columns) continue;
      const float scale = group_scale(format, weight, row, first);
      const uint32_t zero = static_cast<uint32_t>(zero_point(format, weight, row, first));
      std::memcpy(step + column * 4, &scale, sizeof scale);
      step[columns * 4 + column] = static_cast<char>(zero);
      for (int64_t i = 0; i < 16; ++i) {
        // Missing columns get the code of zero.
        const uint32_t code =
            first + i < weight.columns ? code_bits(format, weight.codes, row, first + i) : zero & 0xfu;
        step[columns * (5 + i / 2) + column] |= static_cast<char>(code << (i % 2 * 4));
      }
    }
  }
}

}  // namespace moe::cpu
