// How packed weights of a format are laid out in a panel, and the function that packs them.
#pragma once

#include <cstdint>

#include "core/formats/weight_format.h"
#include "cpu/gemm/grid_units.h"
#include "cpu/gemm/panel_scales.h"

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
  const PanelLevels* levels;
  // Whether plain panels are written past the caches; then Kernels::end_streams() must follow.
  bool streams;

  int64_t half() const { return up == nullptr ? panel_columns : panel_columns / 2; }
  const WeightReader& reader(int64_t column) const { return column < half() ? *weight : *up; }
  // The row that becomes this column; -1: zeros.
  int64_t row(int64_t column) const {
    const int64_t row = first_row + column % half();
    return row < outputs ? row : -1;
  }
};

// A panel holds the scales of all its groups, if the panel format keeps them apart. Then come `step` consecutive k of
// all columns, then the next `step`. k is padded to whole steps.
struct PanelFormat {
  // Names the bytes, together with the weight format. It must change whenever the same weights become other bytes,
  // because packed weights are kept in files.
  const char* id;
  int64_t step;
  int64_t column_bytes;       // of one column per step
  int64_t group = 1;          // consecutive k of a column that lie next to each other
  bool scales_apart = false;  // see panel_scales.h
  GridCodes grid = {};        // whose units are stored instead of codes
  // Writes a whole panel: the scales, and padded_k / step * panel_columns * column_bytes bytes.
  void (*pack)(const PanelSource& source, char* panel);
};

// The panels of a weight format.
using PanelFunction = PanelFormat (*)(const WeightFormat& format);

// Element (k, column) is at [k / group][column][k % group].
void pack_f32_panel(const PanelSource& source, char* panel);
void pack_f16_panel(const PanelSource& source, char* panel);
void pack_bf16_panel(const PanelSource& source, char* panel);

constexpr PanelFormat f32_panels(const WeightFormat&) {
  return {.id = "f32.1", .step = 1, .column_bytes = 4, .pack = pack_f32_panel};
}
constexpr PanelFormat f16_panels(const WeightFormat&) {
  return {.id = "f16.1", .step = 1, .column_bytes = 2, .pack = pack_f16_panel};
}
constexpr PanelFormat bf16_panels(const WeightFormat&) {
  return {.id = "bf16.1", .step = 2, .column_bytes = 4, .group = 2, .pack = pack_bf16_panel};
}
// The same with k padded to whole tile registers.
constexpr PanelFormat bf16_tile_panels(const WeightFormat&) {
  return {.id = "bf16_tiles.1", .step = 32, .column_bytes = 64, .group = 2, .pack = pack_bf16_panel};
}

// Scales, then codes, see panel_codes.h.
void pack_coded_panel(const PanelSource& source, char* panel);

constexpr PanelFormat coded_panels(const WeightFormat& format) {
  const int segment = segment_of(format);
  return {.id = "codes.2",
          .step = segment,
          .column_bytes = segment * format.bits / 8,
          .scales_apart = true,
          .pack = pack_coded_panel};
}

// The same, with compact scales, and with the units of grids instead of codes; see grid_units.h.
void pack_grid_panel(const PanelSource& source, char* panel);

constexpr PanelFormat grid_panels(const WeightFormat& format) {
  if (format.grid.absent()) return coded_panels(format);
  return {.id = "grids.2",
          .step = kGridStep,
          .column_bytes = grid_step_bytes(format.grid.grid),
          .scales_apart = true,
          .grid = format.grid,
          .pack = pack_grid_panel};
}

}  // namespace moe::cpu

#if defined(MOE_EXTENSION)
#include "extension/cpu/panel_formats.h"
#endif
