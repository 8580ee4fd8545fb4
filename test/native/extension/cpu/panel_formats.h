// Panels for the tests' weight format.
#pragma once

#include "extension/core/formats.h"

namespace moe::cpu {

// A step is a group of 16 k: the scales of all columns, then their zero points (one byte each), then one byte for every
// pair of k and column, the lower k in the lower bits.
void pack_test_u4_g16_panel(const PanelSource& source, char* panel);

inline constexpr int kTestU4G16ColumnBytes = 4 + 1 + 8;
constexpr PanelFormat test_u4_g16_panels(const WeightFormat&) {
  return {.id = "test_u4_g16.1", .step = 16, .column_bytes = kTestU4G16ColumnBytes, .pack = pack_test_u4_g16_panel};
}
constexpr bool takes_test_u4_g16(const WeightFormat& format) { return &format == &kTestU4G16Format; }

}  // namespace moe::cpu
