// Panels for the tests' weight format.
#pragma once

#include "extension/core/formats.h"

namespace moe::cpu {

// A step is a group of 16 k: the scales of all columns, then their zero points (one byte each), then one byte for every
// pair of k and column, the lower k in the lower bits.
void pack_test_u4_g16_panel(const PanelSource& source, char* panel);

inline constexpr PanelFormat kTestU4G16Panels{
    .id = "test_u4_g16.1", .step = 16, .column_bytes = 4 + 1 + 8, .pack = pack_test_u4_g16_panel};

}  // namespace moe::cpu
