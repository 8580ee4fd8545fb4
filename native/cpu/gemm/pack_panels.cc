// Packers for plain formats.
#include <algorithm>
#include <cstring>

#include "cpu/gemm/panel_format.h"
#include "cpu/gemm/weight_reader.h"

namespace moe::cpu {

namespace {

// `Unit` holds the elements of one group of one column.
template <class Unit>
void pack_plain_panel(DType dtype, const PanelSource& source, char* panel) {
  // Values of a column that are placed before the next column's turn, so that the part of the panel they go to stays in
  // the first-level cache.
  constexpr int64_t kChunk = 256;
  alignas(64) char values[kChunk * sizeof(float)];
  const int64_t group = static_cast<int64_t>(sizeof(Unit) / info(dtype).bytes);
  for (int64_t begin = 0; begin < source.padded_k; begin += kChunk) {
    const int64_t length = std::min(kChunk, source.padded_k - begin);
    for (int64_t column = 0; column < source.panel_columns; ++column) {
      source.reader(column).read(dtype, source.row(column), begin, length, values);
      char* target = panel + (begin / group * source.panel_columns + column) * static_cast<int64_t>(sizeof(Unit));
      for (int64_t i = 0; i < length / group; ++i) {
        std::memcpy(target + i * source.panel_columns * static_cast<int64_t>(sizeof(Unit)),
                    values + i * static_cast<int64_t>(sizeof(Unit)), sizeof(Unit));
      }
    }
  }
}

}  // namespace

void pack_f32_panel(const PanelSource& source, char* panel) { pack_plain_panel<uint32_t>(DType::f32, source, panel); }
void pack_f16_panel(const PanelSource& source, char* panel) { pack_plain_panel<uint16_t>(DType::f16, source, panel); }
void pack_bf16_panel(const PanelSource& source, char* panel) { pack_plain_panel<uint32_t>(DType::bf16, source, panel); }

}  // namespace moe::cpu
