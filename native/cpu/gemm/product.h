// The grouped matrix product on packed operands: every expert's rows times its weight panels.
#pragma once

#include <algorithm>
#include <numeric>
#include <vector>

#include "cpu/gemm/panels.h"
#include "cpu/gemm/plan.h"
#include "cpu/runtime/context.h"
#include "cpu/runtime/topology.h"

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
// Multiplies the results of a tile's rows, each packed with `packed_k` k, by the rows' units, if they have any.
inline void apply_units(const Kernels& kernels, const GemmKernel& gemm, const char* x, int64_t packed_k, int rows,
                        float* c) {
  if (unit_bytes(gemm.arithmetic) == 0) return;
  const char* units = x + rows * packed_k * element_bytes(gemm.arithmetic);
  kernels.scale_rows(reinterpret_cast<const float*>(units), rows, c);
}

// Where a product's rows go before the activation, too: those of the gate, or the only ones, from column `first` on,
// those of the up from `second` on.
struct RowsBefore {
  TensorView rows;  // absent: nowhere
  int64_t first = 0;
  int64_t second = 0;
};

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
  RowsBefore before = {};
  const std::vector<RowTile>* tiles = nullptr;
  ProductPlan plan;
  bool cached = false;  // the last-level cache may have some of the weights that it reads

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
  // The same for a panel that is made in the cache before tiles read it: packed, or expanded. A single tile reads it
  // from end to end.
  int64_t made_floats() const {
    const int64_t bytes = weights->borrows() ? layout().panel_bytes : layout().expanded_bytes(layout().padded_k);
    return round_up(bytes / int64_t{sizeof(float)}, 16);
  }
  int64_t scratch_size() const { return round_up(unpacked_floats() + made_floats() + result_sums(), 16); }
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
// prefetches such a stream unless it comes too fast, so each read waits some ten cycles for the one before.
inline void read_scales(const char* panel, int64_t bytes) {
  uint32_t sum = 0;
  for (const char *line = panel, *end = panel + bytes; line < end; line += kLineBytes) {
    sum = (sum * 3 + *reinterpret_cast<const volatile uint8_t*>(line)) * 5;
  }
  [[maybe_unused]] volatile uint32_t kept = sum;
}

// The lines of memory that several calls prefetch together: each takes the next of equal shares.
class PrefetchShares {
 public:
  PrefetchShares(const char* first, int64_t lines, int64_t shares) : first_(first), lines_(lines), shares_(shares) {}

  // Sets what the next call prefetches.
  void take(TileArguments& t) {
    const int64_t begin = lines_taken_;
    lines_taken_ = ++shares_taken_ == shares_ ? lines_ : lines_ * shares_taken_ / shares_;
    t.prefetch = first_ + begin * kLineBytes;
    t.prefetch_lines = lines_taken_ - begin;
  }

 private:
  const char* first_;
  int64_t lines_, shares_;
  int64_t shares_taken_ = 0, lines_taken_ = 0;
};

// One thread's part of a product. After the last block of k of a tile and a panel it calls store(tile, panel, c): c has
// rows of panel_columns, whose first values are the results. Sums of groups end at the same k whatever the number of
// rows, so a row's result does not depend on its tile.
template <class Store>
class ProductThread {
 public:
  // `scratch` has room for product.scratch_size() floats.
  ProductThread(const Product& product, float* scratch, Store& store)
      : product_(product),
        layout_(product.layout()),
        gemm_(*product.gemm),
        tokens_(product.weights->inputs().tokens()),
        row_scales_(product.weights->inputs().scales_per_row()),
        x_sums_per_row_(product.x_sums_per_row()),
        scales_groups_(product.row_scales != nullptr && !tokens_.scales_rows()),
        expands_(!layout_.grid.absent()),
        packs_(product.weights->borrows()),
        unpacked_(reinterpret_cast<char*>(scratch)),
        made_(reinterpret_cast<char*>(scratch + product.unpacked_floats())),
        sums_(scratch + product.unpacked_floats() + product.made_floats()),
        store_(store) {}

  void compute(const WorkItem& item) {
    if (layout_.padded_k == 0) return finish_without_k(item);
    const Reading reading = reading_of(item);
    const int64_t k_block = reading.shared ? product_.plan.k_block : layout_.padded_k;
    for (int64_t k = 0; k < layout_.padded_k; k += k_block) {
      const KBlock block = block_of(k, std::min(k_block, layout_.padded_k - k));
      for (int64_t p = 0, panels; p < item.panels; p += panels) {
        panels = p + reading.wide.panels <= item.panels ? reading.wide.panels : 1;
        multiply(reading, block, p, panels);
      }
    }
  }

 private:
  // How an item's panels are read.
  struct Reading {
    const WorkItem& item;
    const RowTile* tiles;
    const char* weights;  // the expert's first panel, unless panels are packed when they are needed
    bool shared;          // by several tiles; a single tile reads its panels from end to end
    bool in_order;        // scales before codes, see read_scales()
    bool unpacks;
    WideTile wide;
  };

  struct KBlock {
    int64_t k, count;
    bool last;
    int64_t first_code;  // where its codes begin in a panel
    int64_t begin, end;  // its part of a panel; that of the first block begins with the scales
  };

  // Whether tiles read panels that were made in the cache.
  bool makes_panels() const { return expands_ || packs_; }

  Reading reading_of(const WorkItem& item) const {
    const RowTile* tiles = product_.tiles->data() + item.first_tile;
    const bool shared = item.tiles > 1;
    return {.item = item,
            .tiles = tiles,
            .weights = product_.weights->data() + tiles[0].expert * layout_.expert_bytes(),
            .shared = shared,
            .in_order = !shared && !makes_panels() && tiles[0].rows <= gemm_.in_order_rows,
            .unpacks = gemm_.unpacked.unpack != nullptr && item.tiles >= gemm_.unpacked.at_least,
            .wide = shared || packs_ ? WideTile{} : gemm_.wide_tile[tiles[0].rows]};
  }

  KBlock block_of(int64_t k, int64_t count) const {
    const bool last = k + count >= layout_.padded_k;
    const int64_t first_code = layout_.place_of(k);
    return {.k = k,
            .count = count,
            .last = last,
            .first_code = first_code,
            .begin = k == 0 ? 0 : first_code,
            .end = last ? layout_.panel_bytes : layout_.place_of(k + count)};
  }

  // Where a panel of the item is.
  const char* panel_at(const Reading& reading, int64_t panel) const {
    if (!packs_) return reading.weights + panel * layout_.panel_bytes;
    product_.weights->pack(reading.tiles[0].expert, panel, made_);
    return made_;
  }

  // What the calls for panel `p` of the item prefetch. Tiles that share a panel each prefetch a share of the same part
  // of the next panel, and so does unpacking. A single tile reads its panels from memory: unless they were expanded, it
  // prefetches codes a little ahead itself, so only the next panel's scales, a second stream, are left. Where scales
  // and codes are one stream, nothing is left.
  PrefetchShares prefetches(const Reading& reading, const KBlock& block, int64_t p, const char* next_panel) const {
    const WorkItem& item = reading.item;
    const bool all = reading.shared || expands_;
    const int64_t bytes = reading.in_order ? 0 : (all ? block.end : layout_.levels.bytes) - block.begin;
    // After the last panel of a block of k, the first one is read again for the next block.
    const bool restarts = reading.shared && !block.last && p + 1 == item.panels && item.panels > 1;
    const char* first =
        restarts ? reading.weights + item.first_panel * layout_.panel_bytes + block.end : next_panel + block.begin;
    return {first, bytes / kLineBytes, item.tiles + (reading.unpacks ? 1 : 0)};
  }

  // Multiplies all tiles of an item by its panels p .. p + panels - 1.
  void multiply(const Reading& reading, const KBlock& block, int64_t p, int64_t panels) {
    const WorkItem& item = reading.item;
    const int64_t panel = item.first_panel + p;
    const char* base = panel_at(reading, panel);
    const char* next_panel = base + layout_.panel_bytes;
    PrefetchShares shares = packs_ ? PrefetchShares(base, 0, 1) : prefetches(reading, block, p, next_panel);
    if (reading.in_order) read_scales(base, layout_.levels.bytes);
    const PanelParts parts = layout_.parts(*product_.kernels, base, block.k, block.count, made_);
    TileArguments t{.first_k = block.k,
                    .k = block.count,
                    .rows = 0,
                    .x = nullptr,
                    .w = parts.codes,
                    .c = nullptr,
                    .accumulate = false,
                    .prefetch = nullptr,
                    .prefetch_lines = 0,
                    .next = makes_panels() ? nullptr : next_codes(reading, block, next_panel),
                    .scales = &layout_.scales,
                    .panel = parts.scales,
                    .x_sums = nullptr};
    if (reading.unpacks) {
      shares.take(t);
      gemm_.unpacked.unpack(t, unpacked_);
      t.w = unpacked_;
    }
    t.block_k = product_.plan.k_block;
    t.accumulate = block.k > 0;
    t.panel_bytes = layout_.panel_bytes;
    if (reading.in_order) t.distance = kJustAhead;
    if (!reading.shared && !packs_ && !product_.cached) t.past_caches = gemm_.past_caches;
    t.x_scale_stride = row_scales_;
    t.x_scale_segments = scales_groups_ ? layout_.scales.segments_in(tokens_.columns) : 0;
    const TileFunctions& functions = reading.unpacks ? gemm_.unpacked.tile : gemm_.tile;
    for (int64_t i = 0; i < item.tiles; ++i) {
      const RowTile& tile = reading.tiles[i];
      t.rows = tile.rows;
      t.x = packed(tile) + block.k * tile.rows * element_bytes(gemm_.arithmetic);
      t.c = product_.one_block() ? sums_ : sums_ + (p * item.tiles + i) * product_.tile_sums();
      t.x_sums = x_sums_of(tile, block.k);
      t.x_scales = scales_groups_ ? product_.row_scales + tile.first_row * row_scales_ : nullptr;
      shares.take(t);
      const TileFunction function = panels > 1 ? reading.wide.function : functions[tile.rows];
      function(t);
      if (!block.last) continue;
      for (int64_t j = 0; j < panels; ++j) finish(tile, panel + j, t.c + j * tile.rows * layout_.panel_columns);
    }
  }

  // Where a single tile reads on after a panel's codes; null if a panel's tiles share prefetches instead.
  static const char* next_codes(const Reading& reading, const KBlock& block, const char* next_panel) {
    if (reading.shared) return nullptr;
    return reading.in_order ? next_panel : next_panel + block.first_code;
  }

  const char* packed(const RowTile& tile) const { return product_.x + tile.first_row * product_.x_row_bytes; }

  const float* x_sums_of(const RowTile& tile, int64_t k) const {
    if (product_.x_sums == nullptr) return nullptr;
    return product_.x_sums + tile.first_row * x_sums_per_row_ +
           layout_.scales.segments_in(k) * tile.rows * gemm_.row_sums;
  }

  // Without any k, there is nothing that a kernel could read: sums are zeros, and results are the bias.
  void finish_without_k(const WorkItem& item) {
    for (int64_t i = 0; i < item.tiles; ++i) {
      const RowTile& tile = (*product_.tiles)[item.first_tile + i];
      for (int64_t p = 0; p < item.panels; ++p) {
        std::fill_n(sums_, tile.rows * layout_.panel_columns, 0.0f);
        finish(tile, item.first_panel + p, sums_);
      }
    }
  }

  // Makes results of a tile's sums in one panel, and stores them.
  void finish(const RowTile& tile, int64_t panel, float* c) {
    const Kernels& kernels = *product_.kernels;
    const ExpertProduct& weights = product_.weights->weights();
    apply_units(kernels, gemm_, packed(tile), packed_row_k(gemm_, layout_), tile.rows, c);
    if (product_.row_scales != nullptr && tokens_.scales_rows()) {
      kernels.scale_rows(product_.row_scales + tile.first_row, tile.rows, c);
    }
    alignas(64) float bias[kMostPanelColumns];
    if (product_.bias != nullptr) load_panel_bias(product_, tile.expert, panel, bias);
    const float* added = product_.bias == nullptr ? nullptr : bias;
    if (!product_.before.rows.absent()) {
      kernels.activate(Activation::none, ActivationPart::whole, {}, added, c, tile.rows);
      keep_before(tile, panel, c);
      added = nullptr;
    }
    kernels.activate(weights.activation, weights.part, weights.clamps.of(tile.expert), added, c, tile.rows);
    store_(tile, panel, c);
  }

  void keep_before(const RowTile& tile, int64_t panel, const float* c) {
    const auto& [rows, first, second] = product_.before;
    const int64_t width = layout_.outputs_per_panel, output = panel * width;
    const int64_t count = std::min(width, product_.weights->weights().outputs() - output);
    const auto bytes = static_cast<int64_t>(info(rows.dtype).bytes);
    for (int32_t r = 0; r < tile.rows; ++r) {
      const float* values = c + r * layout_.panel_columns;
      char* row = rows.as<char>() + ((tile.first_row + r) * rows.shape[1] + output) * bytes;
      product_.kernels->from_f32(rows.dtype, values, count, row + first * bytes);
      if (width == layout_.panel_columns) continue;
      product_.kernels->from_f32(rows.dtype, values + width, count, row + second * bytes);
    }
  }

  // A panel that is one stream is prefetched just ahead of where it is read, in case the hardware does not do so. It
  // does for plain weights, where more requests would only get in its way.
  static constexpr int64_t kJustAhead = 1024;

  const Product& product_;
  const PanelLayout& layout_;
  const GemmKernel& gemm_;
  const TokenScheme& tokens_;
  const int64_t row_scales_, x_sums_per_row_;
  const bool scales_groups_;  // x are codes whose scales are those of groups of k, not of rows
  const bool expands_;        // weights are units of grids
  const bool packs_;          // panels are packed when they are needed
  char* const unpacked_;
  char* const made_;
  float* const sums_;
  Store& store_;
};

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

// Notes that a product begins to read its weights. Returns whether a last-level cache may have some of them: since they
// were last read, products have read less than twice what it holds.
inline bool note_reads(Context& context, const Product& product) {
  static const int64_t kept = 2 * std::max(last_level_cache_bytes(), int64_t{32} << 20);
  const int64_t before = context.bytes_read;
  bool cached = false;
  int32_t previous = -1;
  for (const RowTile& tile : *product.tiles) {
    if (tile.expert == previous) continue;
    previous = tile.expert;
    if (before - product.weights->note_read(tile.expert, before) < kept) cached = true;
    context.bytes_read += product.layout().expert_bytes();
  }
  return cached;
}

// Plans a product and computes it with as many threads as it is worth.
template <class Store>
Status run_product(Context& context, Product product, Store&& store) {
  const PanelLayout& layout = product.layout();
  // A panel that is packed for an item is multiplied by all its rows.
  const int64_t longest_k =
      product.weights->borrows() ? std::max<int64_t>(1, layout.padded_k) : product.gemm->longest_k;
  product.plan = plan_product(*product.tiles, {.padded_k = layout.padded_k,
                                               .step = std::lcm(layout.step, k_group(product.gemm->arithmetic)),
                                               .panels = layout.panels,
                                               .panels_at_once = product.gemm->panels_at_once(),
                                               .x_bytes = element_bytes(product.gemm->arithmetic),
                                               .tile_bytes = product.tile_sums() * int64_t{sizeof(float)},
                                               .longest_k = longest_k,
                                               .threads = context.team.threads});
  product.cached = note_reads(context, product);
  MOE_TRY(sum_x(context, product));
  const int64_t size = product.scratch_size();
  MOE_TRY(context.sums.reserve(static_cast<size_t>(context.team.threads * size) * sizeof(float), context.poison));
  float* sums = reinterpret_cast<float*>(context.sums.data());
  const int64_t items = std::ssize(product.plan.items);
  context.queue.reset(items);
  context.team.share(items, product.work(), [&](const Worker& worker) {
    ProductThread thread(product, sums + worker.index * size, store);
    for (int64_t i; (i = context.queue.next(worker.index)) >= 0;) thread.compute(product.plan.items[i]);
    if (product.gemm->release != nullptr) product.gemm->release();
    product.kernels->end_streams();
  });
  return {};
}

}  // namespace moe::cpu
