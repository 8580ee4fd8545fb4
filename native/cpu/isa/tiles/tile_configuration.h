// The shapes of the eight tile registers of AMX, as LDTILECFG reads them (palette 1).
#pragma once

#include <cstdint>

namespace moe::cpu {

constexpr int kTileRegisters = 8;
constexpr int kTileRegisterRows = 16;
constexpr int kTileRegisterBytes = 64;  // of a row

struct alignas(64) TileConfiguration {
  uint8_t palette = 1;
  uint8_t start_row = 0;
  uint8_t reserved[14] = {};
  uint16_t column_bytes[16] = {};
  uint8_t rows[16] = {};

  constexpr void set(int tile, int row_count, int row_bytes) {
    rows[tile] = static_cast<uint8_t>(row_count);
    column_bytes[tile] = static_cast<uint16_t>(row_bytes);
  }
};
static_assert(sizeof(TileConfiguration) == 64);

}  // namespace moe::cpu
