// A grouped matrix product on packed operands: every expert's rows times its weight panels.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "cpu/gemm/packed_rows.h"
#include "cpu/gemm/panels.h"
#include "cpu/gemm/plan.h"
#include "cpu/runtime/context.h"

namespace moe::cpu {

// k of a row of x as a kernel reads it: zeros fill up the panels' k and groups.
inline int64_t packed_row_k(const GemmKernel& gemm, const PanelLayout& layout) {
  return round_up(layout.padded_k, k_group(gemm.arithmetic));
}
inline int64_t packed_row_bytes(const GemmKernel& gemm, int64_t packed_k) {
  return packed_k * element_bytes(gemm.arithmetic) + unit_bytes(gemm.arithmetic);
}
inline int64_t packed_row_bytes(const GemmKernel& gemm, const PanelLayout& layout) {
  return packed_row_bytes(gemm, packed_row_k(gemm, layout));
}
// The units of a tile's rows, each packed with `packed_k` k, by which their results are multiplied; null: there are
// none.
inline const float* row_units(const GemmKernel& gemm, const char* x, int64_t packed_k, int rows) {
  if (unit_bytes(gemm.arithmetic) == 0) return nullptr;
  return reinterpret_cast<const float*>(x + rows * packed_k * element_bytes(gemm.arithmetic));
}

// Where a product's rows go before the activation, too: those of the gate, or the only ones, from column `first` on,
// those of the up from `second` on.
struct RowsBefore {
  TensorView rows;  // absent: nowhere
  int64_t first = 0;
  int64_t second = 0;
};

// Where rows of results go that need no more than their activation.
struct DirectResults {
  char* rows = nullptr;                        // the first; null: they go elsewhere, see run_product()
  int64_t row_bytes = 0;                       // from a row to the next, or of what a packed tile has for each
  ResultStorage storage = ResultStorage::f32;  // bfloat16: packed as Arithmetic::bf16_tiles
};

// A matrix [.., outputs]. If it streams, rows are written past the caches where they are aligned for that.
inline DirectResults direct_matrix(float* rows, int64_t outputs, bool streams) {
  const int64_t row_bytes = outputs * int64_t{sizeof(float)};
  const bool aligned = (reinterpret_cast<uintptr_t>(rows) | static_cast<uintptr_t>(row_bytes)) % kLineBytes == 0;
  return {reinterpret_cast<char*>(rows), row_bytes,
          streams && aligned ? ResultStorage::streamed_f32 : ResultStorage::f32};
}

struct Product {
  const Kernels* kernels = nullptr;
  const GemmKernel* gemm = nullptr;
  const CpuPackedExperts* weights = nullptr;
  PackedRows rows = {};                // if they are packed already
  const TilePacker* packer = nullptr;  // if they are not
  const float* bias = nullptr;         // the first expert's, or null
  int64_t bias_stride = 0;             // to the next expert's
  RowsBefore before = {};
  DirectResults direct = {};
  const std::vector<RowTile>* tiles = nullptr;
  ProductPlan plan;
  bool cached = false;  // the last-level cache may have some of the weights that it reads

  const PanelLayout& layout() const { return weights->layout(); }
  const float* units_of(const RowTile& tile, const PackedRows& packed) const {
    return row_units(*gemm, packed.x_of(tile), packed_row_k(*gemm, layout()), tile.rows);
  }
  // Packs a tile, unless it is, and sums its rows, if weights need that.
  void make_tile(int thread, const RowTile& tile, const PackedRows& packed) const {
    if (packer != nullptr) packer->pack(thread, tile, packed.x_of(tile), packed.scales_of(tile));
    if (!sums_x(tile)) return;
    gemm->sum_segments(packed.x_of(tile), x_segments(), layout().scales.segment, tile.rows, packed.sums_of(tile));
  }
  // Weight bytes, counted once for each item that reads them, and multiply-adds.
  Work work() const {
    int64_t panels = 0, row_panels = 0;
    for (const WorkItem& item : plan.items) {
      panels += item.panels;
      for (int64_t t = 0; t < item.tiles; ++t) row_panels += item.panels * (*tiles)[item.first_tile + t].rows;
    }
    return {.bytes = static_cast<double>(panels * layout().panel_bytes),
            .operations = 2.0 * static_cast<double>(row_panels * layout().panel_columns * layout().padded_k)};
  }
  // Whether each thread packs the rows of its items: then they are in its cache when they are multiplied.
  bool threads_pack() const { return packer != nullptr && plan.many_blocks; }
  // With several blocks of k, sums of tiles that share panels are kept from block to block. Other tiles are multiplied
  // by all k at once.
  bool keeps_sums(const WorkItem& item) const { return item.tiles > 1 && plan.k_block < layout().padded_k; }
  int64_t tile_sums() const { return gemm->max_rows * layout().panel_columns; }
  // The sums of tiles that are not kept: those of one are finished while those of the next are in the making.
  int64_t passing_sums() const { return gemm->panels_at_once() * tile_sums(); }
  // Takes memory for so many rows: to pack and sum them, or if they are packed, to sum them.
  PackedRows take_rows(Arena& arena, int64_t count) const {
    PackedRows packed = rows;
    if (packer != nullptr) {
      packed.row_bytes = packed_row_bytes(*gemm, layout());
      packed.x = arena.take<char>(count * packed.row_bytes);
      packed.scales_per_row = weights->inputs().scales_per_row();
      if (packed.scales_per_row > 0) packed.scales = arena.take<float>(count * packed.scales_per_row);
    }
    // Where some tiles need sums, those of one row do.
    if (gemm->sums_x(layout().scales, 1)) {
      packed.sums_per_row = x_segments() * gemm->row_sums;
      packed.sums = arena.take<float>(count * packed.sums_per_row);
    }
    return packed;
  }
  // What one thread needs.
  struct ThreadMemory {
    char* unpacked;  // a panel's unpacked block of k: codes, scales and offsets
    char* made;  // a panel that is made in the cache before tiles read it, which a single tile reads from end to end
    PackedRows rows;  // of a block, if threads pack them
    float* sums;      // of results: of tiles whose sums pass, and then of those whose sums are kept
  };
  ThreadMemory take_memory(Arena& arena) const {
    ThreadMemory memory{};
    if (gemm->unpacked.unpack != nullptr) {
      const int64_t k = round_up(plan.k_block, k_group(gemm->arithmetic));
      const int64_t scales = k / layout().scales.segment * 2 * int64_t{sizeof(float)};
      memory.unpacked = arena.take<char>((k * gemm->unpacked.code_bytes + scales) * layout().panel_columns);
    }
    memory.made =
        arena.take<char>(weights->borrows() ? layout().panel_bytes : layout().expanded_bytes(layout().padded_k));
    memory.rows = threads_pack() ? take_rows(arena, plan.most_tiles * gemm->max_rows) : rows;
    memory.sums = arena.take<float>(2 * passing_sums() + plan.most_tiles * plan.most_panels * tile_sums());
    return memory;
  }
  int64_t x_segments() const {
    return layout().scales.segment == 0 ? 0 : layout().scales.segments_in(layout().padded_k);
  }
  bool sums_x(const RowTile& tile) const { return gemm->sums_x(layout().scales, tile.rows); }
};

}  // namespace moe::cpu
