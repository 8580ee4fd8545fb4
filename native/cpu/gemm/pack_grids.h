// Packs units of grids into panels, and back; see grid_units.h.
#pragma once

#include "core/formats/weight_view.h"
#include "cpu/gemm/panel_format.h"

namespace moe::cpu {

// Writes the codes of a whole panel.
void pack_grids(const PanelSource& source, char* codes);

// Writes the codes of `count` units of a row, from unit `first` on, as bytes: eight codes of three or four bits each.
void expand_units(const WeightView& weight, int64_t row, int64_t first, int64_t count, char* codes);

// Reads the units of a column of a panel, as a row of bytes.
void unpack_grids(const GridCodes& grid, const char* codes, int64_t columns, int64_t column, int64_t units,
                  uint8_t* row);

}  // namespace moe::cpu
