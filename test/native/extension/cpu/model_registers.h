// The tile registers of AMX in memory, for ModelTiles.
#pragma once

#include <cstdint>

#include "cpu/isa/tiles/tile_configuration.h"

namespace moe::cpu {

// Bytes beyond a register's shape are zeros.
struct alignas(64) ModelRegister {
  int rows = 0;
  int column_bytes = 0;  // of a row
  alignas(64) uint8_t bytes[kTileRegisterRows][kTileRegisterBytes] = {};
};

// The registers of one thread, initially not configured. What the CPU answers by a fault throws std::logic_error.
class ModelRegisters {
 public:
  // Those of this thread.
  static ModelRegisters& own();

  // Zeros in shapes that LDTILECFG accepts.
  void configure(const TileConfiguration& shapes);
  void release() { configure({.palette = 0}); }
  ModelRegister& configured(int tile);
  // The register of rows that instructions can access: of whole 4 bytes.
  ModelRegister& accessible(int tile);
  // Checks the shapes of c [m, n], a [m, k] and b [k, n], in units of 4 bytes.
  void check_product(int c, int a, int b);

 private:
  ModelRegister registers_[kTileRegisters];
};

}  // namespace moe::cpu
