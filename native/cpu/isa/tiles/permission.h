// Whether this process may use the tile registers of AMX.
#pragma once

#include <string>

namespace moe::cpu {

struct TilePermission {
  bool granted = false;
  std::string reason;  // why not, in words
};

// The CPU must have AMX-TILE, AMX-BF16 and AMX-INT8, the kernel must save AVX-512's registers and tiles, and it must
// grant their 8 KiB to this process, which is asked for once and holds for all of its threads, also those that exist.
const TilePermission& tile_permission();

}  // namespace moe::cpu
