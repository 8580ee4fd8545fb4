// Rows of x as the tile kernels of a product read them.
#pragma once

#include <cstdint>

#include "cpu/gemm/plan.h"

namespace moe::cpu {

// Packed tiles of consecutive rows.
struct PackedRows {
  char* x = nullptr;        // the tile of rows r .. starts at x + (r - first_row) * row_bytes
  int64_t row_bytes = 0;    // at least packed_row_bytes()
  float* scales = nullptr;  // if they are packed as codes: [rows, scales_per_row]
  int64_t scales_per_row = 0;
  float* sums = nullptr;  // if weights need them: of tile rows r .. [segment][row][row_sums]
  int64_t sums_per_row = 0;
  int64_t first_row = 0;

  // Those of a tile; null: there are none.
  char* x_of(const RowTile& tile) const { return x + (tile.first_row - first_row) * row_bytes; }
  float* scales_of(const RowTile& tile) const { return of(tile, scales, scales_per_row); }
  float* sums_of(const RowTile& tile) const { return of(tile, sums, sums_per_row); }

 private:
  float* of(const RowTile& tile, float* values, int64_t per_row) const {
    return values == nullptr ? nullptr : values + (tile.first_row - first_row) * per_row;
  }
};

// Packs the tiles of a product when they are needed, from any thread, and perhaps more than once.
class TilePacker {
 public:
  // `scales` receives those of rows of codes, else it is null.
  virtual void pack(int thread, const RowTile& tile, char* x, float* scales) const = 0;

 protected:
  ~TilePacker() = default;
};

}  // namespace moe::cpu
