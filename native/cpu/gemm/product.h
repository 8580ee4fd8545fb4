// The grouped matrix product on packed operands: every expert's rows times its weight panels.
#pragma once

#include <algorithm>
#include <vector>

#include "cpu/gemm/panels.h"
#include "cpu/gemm/plan.h"

namespace moe::cpu {

struct Product {
  const Kernels* kernels;
  const GemmKernel* gemm;
  const CpuPackedExperts* weights;
  // Packed tiles: that of rows r .. starts at x + r * padded_k * element bytes.
  const char* x;
  const float* bias;  // [experts, rows] or null
  const std::vector<RowTile>* tiles;
  const ProductPlan* plan;

  const PanelLayout& layout() const { return weights->layout(); }
  int64_t x_row_bytes() const { return layout().padded_k * element_bytes(gemm->arithmetic); }
  // Weights read, once for each item that has them, and multiply-adds.
  Work work() const {
    int64_t panels = 0, row_panels = 0;
    for (const WorkItem& item : plan->items) {
      panels += item.panels;
      for (int64_t t = 0; t < item.tiles; ++t) row_panels += item.panels * (*tiles)[item.first_tile + t].rows;
    }
    return {.bytes = static_cast<double>(panels * layout().panel_bytes()),
            .operations = 2.0 * static_cast<double>(row_panels * layout().panel_columns * layout().padded_k)};
  }
  // float32 values that one thread needs for sums.
  int64_t scratch_size() const { return plan->most_tiles * plan->most_panels * kMaxTileRows * layout().panel_columns; }
};

// Copies the bias of one panel's columns, zeros behind the last output.
inline void load_panel_bias(const Product& product, int64_t expert, int64_t panel, float* bias) {
  const ExpertProduct& weights = product.weights->weights();
  const PanelLayout& layout = product.layout();
  const float* source = product.bias + expert * weights.rows;
  for (int64_t column = 0; column < layout.panel_columns; ++column) {
    const int64_t half = column / layout.outputs_per_panel;
    const int64_t output = panel * layout.outputs_per_panel + column % layout.outputs_per_panel;
    bias[column] = output < weights.outputs() ? source[half * weights.outputs() + output] : 0.0f;
  }
}

// Works through the items that `queue` hands to this worker. After the last k block of a tile and panel, calls
// store(tile, panel, c): c holds rows of panel_columns, the results first. k is cut the same way for every row count,
// so that a row's result does not depend on its tile.
template <class Store>
void run_product(const Product& product, int worker, ItemQueue& queue, float* scratch, Store&& store) {
  const PanelLayout& layout = product.layout();
  const ExpertProduct& expert_weights = product.weights->weights();
  const int64_t x_bytes = element_bytes(product.gemm->arithmetic);
  const int64_t sums = kMaxTileRows * layout.panel_columns;
  alignas(64) float bias[64];
  for (int64_t index; (index = queue.next(worker)) >= 0;) {
    const WorkItem& item = product.plan->items[index];
    const RowTile* tiles = product.tiles->data() + item.first_tile;
    const char* weights = product.weights->data() + tiles[0].expert * layout.expert_bytes();
    for (int64_t k = 0; k < layout.padded_k || k == 0; k += product.plan->k_block) {
      const int64_t k_count = std::min(product.plan->k_block, layout.padded_k - k);
      const bool last = k + k_count >= layout.padded_k;
      for (int64_t p = 0; p < item.panels; ++p) {
        const int64_t panel = item.first_panel + p;
        const char* weight = weights + panel * layout.panel_bytes() + layout.bytes_of(k);
        // Where several tiles share a panel, each brings its share of the next panel's same part. A single tile reads
        // its panels from memory in order, which the hardware foresees: more requests would only get in its way.
        const int64_t lines = item.tiles > 1 ? layout.bytes_of(k_count) / 64 : 0;
        for (int64_t t = 0; t < item.tiles; ++t) {
          const RowTile& tile = tiles[t];
          const char* x = product.x + tile.first_row * product.x_row_bytes() + k * tile.rows * x_bytes;
          float* c = scratch + (p * item.tiles + t) * sums;
          const int64_t first_line = lines * t / item.tiles;
          product.gemm->tile[tile.rows](k_count, x, weight, c, k > 0, weight + layout.panel_bytes() + first_line * 64,
                                        lines * (t + 1) / item.tiles - first_line);
          if (!last) continue;
          if (product.bias != nullptr) load_panel_bias(product, tile.expert, panel, bias);
          product.kernels->activate(expert_weights.activation, expert_weights.part, expert_weights.clamp,
                                    product.bias == nullptr ? nullptr : bias, c, tile.rows);
          store(tile, panel, c);
        }
      }
    }
  }
}

}  // namespace moe::cpu
