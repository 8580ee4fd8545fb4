// The grouped matrix product on packed operands: every expert's rows times its weight panels.
#pragma once

#include <algorithm>
#include <numeric>
#include <vector>

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
// Multiplies the results of a tile of rows, whose packed rows have so many k, by the rows' units, if they have some.
inline void apply_units(const Kernels& kernels, const GemmKernel& gemm, const char* x, int64_t packed_k, int rows,
                        float* c) {
  if (unit_bytes(gemm.arithmetic) == 0) return;
  const char* units = x + rows * packed_k * element_bytes(gemm.arithmetic);
  kernels.scale_rows(reinterpret_cast<const float*>(units), rows, c);
}

struct Product {
  const Kernels* kernels = nullptr;
  const GemmKernel* gemm = nullptr;
  const CpuPackedExperts* weights = nullptr;
  const char* x = nullptr;            // packed tiles: the one of rows r .. starts at x + r * x_row_bytes
  int64_t x_row_bytes = 0;            // at least packed_row_bytes()
  const float* row_scales = nullptr;  // of rows packed as codes: [rows, ExpertInputs::scales_per_row()], or null
  const float* x_sums = nullptr;      // of tile rows r ..: at r * x_sums_per_row(), [segment][row][row_sums]
  const float* bias = nullptr;        // the first expert's, or null
  int64_t bias_stride = 0;            // to the next expert's
  const std::vector<RowTile>* tiles = nullptr;
  ProductPlan plan;

  const PanelLayout& layout() const { return weights->layout(); }
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
  // With several blocks of k, sums are kept between blocks. With one, a tile's sums are stored as soon as they are
  // done.
  bool one_block() const { return plan.k_block >= layout().padded_k; }
  int64_t tile_sums() const { return gemm->max_rows * layout().panel_columns; }
  // float32 sums of results that one thread needs room for.
  int64_t result_sums() const {
    return (one_block() ? gemm->panels_at_once() : plan.most_tiles * plan.most_panels) * tile_sums();
  }
  // The same for a panel's unpacked block of k, in whole cache lines: codes, scales and offsets.
  int64_t unpacked_floats() const {
    if (gemm->unpacked.unpack == nullptr) return 0;
    const int64_t k = round_up(plan.k_block, k_group(gemm->arithmetic));
    const int64_t codes = k * gemm->unpacked.code_bytes / int64_t{sizeof(float)},
                  segments = k / layout().scales.segment;
    return round_up((codes + 2 * segments) * layout().panel_columns, 16);
  }
  int64_t scratch_size() const { return round_up(unpacked_floats() + result_sums(), 16); }
  int64_t x_segments() const {
    return layout().scales.segment == 0 ? 0 : layout().scales.segments_in(layout().padded_k);
  }
  int64_t x_sums_per_row() const { return x_segments() * gemm->row_sums; }
  bool sums_x(const RowTile& tile) const { return gemm->sums_x(layout().scales, tile.rows); }
};

// Copies the bias of one panel's columns, with zeros after the last output.
inline void load_panel_bias(const Product& product, int64_t expert, int64_t panel, float* bias) {
  const ExpertProduct& weights = product.weights->weights();
  const PanelLayout& layout = product.layout();
  const float* source = product.bias + expert * product.bias_stride;
  for (int64_t column = 0; column < layout.panel_columns; ++column) {
    const int64_t half = column / layout.outputs_per_panel;
    const int64_t output = panel * layout.outputs_per_panel + column % layout.outputs_per_panel;
    bias[column] = output < weights.outputs() ? source[half * weights.outputs() + output] : 0.0f;
  }
}

// Reads a panel's scales before its codes, so that the panel is a single stream in the order of memory. Hardware
// foresees that, if it does not come too fast: each read waits for the one before, some ten cycles.
inline void read_scales(const char* panel, const PanelScales& scales) {
  uint32_t sum = 0;
  for (const char *line = panel, *end = panel + scales.bytes; line < end; line += 64) {
    sum = (sum * 3 + *reinterpret_cast<const volatile uint8_t*>(line)) * 5;
  }
  [[maybe_unused]] volatile uint32_t kept = sum;
}

// One thread's part: works through the items that `queue` hands to this worker. After the last k block of a tile and
// panel it calls store(tile, panel, c): c has rows of panel_columns, whose first values are the results. Sums
// of groups end at the same k for every row count, so a row's result does not depend on its tile.
template <class Store>
void work_through(const Product& product, int worker, ItemQueue& queue, float* scratch, Store&& store) {
  const PanelLayout& layout = product.layout();
  const ExpertProduct& expert_weights = product.weights->weights();
  const TokenScheme& tokens = product.weights->inputs().tokens();
  const int64_t row_scales = product.weights->inputs().scales_per_row();
  const bool scales_groups = product.row_scales != nullptr && !tokens.scales_rows();
  const int64_t x_scale_segments = scales_groups ? layout.scales.segments_in(tokens.columns) : 0;
  const int64_t x_bytes = element_bytes(product.gemm->arithmetic);
  const int64_t packed_k = packed_row_k(*product.gemm, layout);
  const int64_t sums = product.tile_sums(), x_sums_per_row = product.x_sums_per_row();
  char* unpacked = reinterpret_cast<char*>(scratch);
  scratch += product.unpacked_floats();
  alignas(64) float bias[64];
  for (int64_t index; (index = queue.next(worker)) >= 0;) {
    const WorkItem& item = product.plan.items[index];
    const RowTile* tiles = product.tiles->data() + item.first_tile;
    const char* weights = product.weights->data() + tiles[0].expert * layout.expert_bytes();
    const Clamp& clamp = expert_weights.clamps.of(tiles[0].expert);
    // A tile that shares its panels with no other reads them from end to end.
    const bool shared = item.tiles > 1;
    const bool in_order = !shared && tiles[0].rows <= product.gemm->in_order_rows;
    const UnpackedTiles& unpacked_tiles = product.gemm->unpacked;
    const bool unpacks = unpacked_tiles.unpack != nullptr && item.tiles >= unpacked_tiles.at_least;
    const WideTile wide = shared ? WideTile{} : product.gemm->wide_tile[tiles[0].rows];
    const int64_t k_block = shared ? product.plan.k_block : std::max<int64_t>(1, layout.padded_k);
    for (int64_t k = 0; k < layout.padded_k || k == 0; k += k_block) {
      const int64_t k_count = std::min(k_block, layout.padded_k - k);
      const bool last = k + k_count >= layout.padded_k;
      const auto x_of = [&](const RowTile& tile) {
        return product.x + tile.first_row * product.x_row_bytes + k * tile.rows * x_bytes;
      };
      const auto x_sums_of = [&](const RowTile& tile) -> const float* {
        if (product.x_sums == nullptr) return nullptr;
        return product.x_sums + tile.first_row * x_sums_per_row +
               layout.scales.segments_in(k) * tile.rows * product.gemm->row_sums;
      };
      // Where this block is in a panel. The first one begins with the scales.
      const int64_t first_code = layout.place_of(k), begin = k == 0 ? 0 : first_code;
      const int64_t end = last ? layout.panel_bytes : layout.place_of(k + k_count);
      for (int64_t p = 0, panels; p < item.panels; p += panels) {
        const int64_t panel = item.first_panel + p;
        panels = p + wide.panels <= item.panels ? wide.panels : 1;
        const char* base = weights + panel * layout.panel_bytes;
        // Tiles that share a panel each prefetch a share of the same part of the next panel, and so does unpacking. A
        // single tile reads its panels from memory: codes prefetch those a little further, and the scales, a second
        // stream, those of the next panel. Where the two are one stream, prefetches keep just ahead of it, for when the
        // hardware does not. Plain weights it does foresee: more requests would only get in its way.
        constexpr int64_t kJustAhead = 1024;
        const int64_t lines = in_order ? 0 : ((shared ? end : layout.scales.bytes) - begin) / 64;
        // After the last panel of a block of k, the first one is read again for the next block.
        const bool restarts = shared && !last && p + 1 == item.panels && item.panels > 1;
        const char* next_panel = base + layout.panel_bytes;
        const char* ahead = restarts ? weights + item.first_panel * layout.panel_bytes + end : next_panel + begin;
        const char* codes = base + first_code;
        const char* next = shared ? nullptr : in_order ? next_panel : next_panel + first_code;
        if (in_order) read_scales(base, layout.scales);
        const int64_t shares = item.tiles + (unpacks ? 1 : 0);
        int64_t shares_taken = 0, lines_taken = 0;
        struct Share {
          const char* first;
          int64_t lines;
        };
        const auto next_share = [&]() -> Share {
          const int64_t first = lines_taken;
          lines_taken = ++shares_taken == shares ? lines : lines * shares_taken / shares;
          return {ahead + first * 64, lines_taken - first};
        };
        if (unpacks) {
          const Share share = next_share();
          unpacked_tiles.unpack({.first_k = k,
                                 .k = k_count,
                                 .rows = 0,
                                 .x = nullptr,
                                 .w = codes,
                                 .c = nullptr,
                                 .accumulate = false,
                                 .prefetch = share.first,
                                 .prefetch_lines = share.lines,
                                 .next = next,
                                 .scales = &layout.scales,
                                 .panel = base,
                                 .x_sums = nullptr},
                                unpacked);
        }
        for (int64_t t = 0; t < item.tiles; ++t) {
          const RowTile& tile = tiles[t];
          float* c = product.one_block() ? scratch : scratch + (p * item.tiles + t) * sums;
          const Share share = next_share();
          const auto& functions = unpacks ? unpacked_tiles.tile : product.gemm->tile;
          const TileFunction multiply = panels > 1 ? wide.function : functions[tile.rows];
          multiply({.first_k = k,
                    .k = k_count,
                    .block_k = product.plan.k_block,
                    .rows = tile.rows,
                    .x = x_of(tile),
                    .w = unpacks ? unpacked : codes,
                    .c = c,
                    .accumulate = k > 0,
                    .panel_bytes = layout.panel_bytes,
                    .prefetch = share.first,
                    .prefetch_lines = share.lines,
                    .next = next,
                    .distance = in_order ? kJustAhead : TileArguments::kDistance,
                    .scales = &layout.scales,
                    .panel = base,
                    .x_sums = x_sums_of(tile),
                    .x_scales = scales_groups ? product.row_scales + tile.first_row * row_scales : nullptr,
                    .x_scale_stride = row_scales,
                    .x_scale_segments = x_scale_segments});
          if (!last) continue;
          for (int64_t i = 0; i < panels; ++i, c += tile.rows * layout.panel_columns) {
            apply_units(*product.kernels, *product.gemm, product.x + tile.first_row * product.x_row_bytes, packed_k,
                        tile.rows, c);
            if (product.row_scales != nullptr && tokens.scales_rows()) {
              product.kernels->scale_rows(product.row_scales + tile.first_row, tile.rows, c);
            }
            if (product.bias != nullptr) load_panel_bias(product, tile.expert, panel + i, bias);
            product.kernels->activate(expert_weights.activation, expert_weights.part, clamp,
                                      product.bias == nullptr ? nullptr : bias, c, tile.rows);
            store(tile, panel + i, c);
          }
        }
      }
    }
  }
}

// Sums x over segments, once for all panels, where weights need it.
inline Status sum_x(Context& context, Product& product) {
  const std::vector<RowTile>& tiles = *product.tiles;
  int64_t rows = 0, summed = 0;
  for (const RowTile& tile : tiles) {
    rows = std::max(rows, tile.first_row + tile.rows);
    if (product.sums_x(tile)) summed += tile.rows;
  }
  if (summed == 0) return {};
  const int64_t segments = product.x_segments(), per_row = product.x_sums_per_row();
  MOE_TRY(context.x_sums.reserve(static_cast<size_t>(rows * per_row) * sizeof(float), context.poison));
  auto* sums = reinterpret_cast<float*>(context.x_sums.data());
  product.x_sums = sums;
  context.queue.reset(std::ssize(tiles));
  const Work work{.bytes = static_cast<double>(summed * product.x_row_bytes)};
  context.team.share(std::ssize(tiles), work, [&](const Worker& worker) {
    for (int64_t i; (i = context.queue.next(worker.index)) >= 0;) {
      const RowTile& tile = tiles[i];
      if (!product.sums_x(tile)) continue;
      product.gemm->sum_segments(product.x + tile.first_row * product.x_row_bytes, segments,
                                 product.layout().scales.segment, tile.rows, sums + tile.first_row * per_row);
    }
  });
  return {};
}

// Whether so many float32 results are written past the caches: no core's would have them still when they are read.
constexpr bool results_are_streamed(int64_t results) { return results * int64_t{sizeof(float)} > int64_t{2} << 20; }

// Plans a product and computes it with as many threads as it is worth.
template <class Store>
Status run_product(Context& context, Product product, Store&& store) {
  const PanelLayout& layout = product.layout();
  product.plan = plan_product(*product.tiles, {.padded_k = layout.padded_k,
                                               .step = std::lcm(layout.step, k_group(product.gemm->arithmetic)),
                                               .panels = layout.panels,
                                               .panels_at_once = product.gemm->panels_at_once(),
                                               .x_bytes = element_bytes(product.gemm->arithmetic),
                                               .tile_bytes = product.tile_sums() * int64_t{sizeof(float)},
                                               .longest_k = product.gemm->longest_k,
                                               .threads = context.team.threads});
  MOE_TRY(sum_x(context, product));
  const int64_t size = product.scratch_size();
  MOE_TRY(context.sums.reserve(static_cast<size_t>(context.team.threads * size) * sizeof(float), context.poison));
  float* sums = reinterpret_cast<float*>(context.sums.data());
  const int64_t items = std::ssize(product.plan.items);
  context.queue.reset(items);
  context.team.share(items, product.work(), [&](const Worker& worker) {
    work_through(product, worker.index, context.queue, sums + worker.index * size, store);
    if (product.gemm->release != nullptr) product.gemm->release();
    product.kernels->end_streams();
  });
  return {};
}

}  // namespace moe::cpu
