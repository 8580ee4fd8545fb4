// How packed weights of a format lie in a panel, and what packs them.
#pragma once

#include <cstdint>

#include "core/formats/weight_format.h"

namespace moe::cpu {

class WeightReader;

// The rows of a weight that become one panel: the weight's rows `first_row` .. are its first columns and, where the
// activation is gated, as many rows of `up` its second half.
struct PanelSource {
  const WeightReader* weight;
  const WeightReader* up;  // null: not gated
  int64_t first_row;
  int64_t outputs;        // rows from this one on are missing
  int64_t panel_columns;  // of both halves
  int64_t padded_k;

  int64_t half() const { return up == nullptr ? panel_columns : panel_columns / 2; }
  const WeightReader& reader(int64_t column) const { return column < half() ? *weight : *up; }
  // The row that becomes this column; -1: zeros.
  int64_t row(int64_t column) const {
    const int64_t row = first_row + column % half();
    return row < outputs ? row : -1;
  }
};

// `step` consecutive k of all columns lie together, then the next.
struct PanelFormat {
  // Names the bytes: another id where the same weights become other bytes, as packed weights are kept in files.
  const char* id;
  int64_t step;
  int64_t column_bytes;  // of one column in a step
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
