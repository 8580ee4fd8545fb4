// How packed weights of a format are laid out in a panel, and the function that packs them.
#pragma once

#include <cstdint>

#include "core/formats/weight_format.h"

namespace moe::cpu {

class WeightReader;

// The rows of a weight that become one panel. Rows `first_row` .. of the weight are its first columns; if the
// activation is gated, as many rows of `up` are its second half.
struct PanelSource {
  const WeightReader* weight;
  const WeightReader* up;  // null: not gated
  int64_t first_row;
  int64_t outputs;        // rows from here on are missing
  int64_t panel_columns;  // both halves
  int64_t padded_k;

  int64_t half() const { return up == nullptr ? panel_columns : panel_columns / 2; }
  const WeightReader& reader(int64_t column) const { return column < half() ? *weight : *up; }
  // The row that becomes this column; -1: zeros.
  int64_t row(int64_t column) const {
    const int64_t row = first_row + column % half();
    return row < outputs ? row : -1;
  }
};

// A panel holds `step` consecutive k of all columns, then the next `step`.
struct PanelFormat {
  // Names the bytes. It must change whenever the same weights become other bytes, because packed weights are kept in
  // files.
  const char* id;
  int64_t step;
  int64_t column_bytes;  // of one column per step
  // Writes padded_k / step * panel_columns * column_bytes bytes.
  void (*pack)(const PanelSource& source, char* panel);
};

// Element (k, column) is at [k / step][column][k % step].
void pack_f32_panel(const PanelSource& source, char* panel);
void pack_f16_panel(const PanelSource& source, char* panel);
void pack_bf16_panel(const PanelSource& source, char* panel);

inline constexpr PanelFormat kF32Panels{.id = "f32.1", .step = 1, .column_bytes = 4, .pack = pack_f32_panel};
inline constexpr PanelFormat kF16Panels{.id = "f16.1", .step = 1, .column_bytes = 2, .pack = pack_f16_panel};
inline constexpr PanelFormat kBF16Panels{.id = "bf16.1", .step = 2, .column_bytes = 4, .pack = pack_bf16_panel};

}  // namespace moe::cpu

#if defined(MOE_EXTENSION)
#include "extension/cpu/panel_formats.h"
#endif
