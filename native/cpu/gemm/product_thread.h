// How one thread computes its part of a grouped matrix product.
#pragma once

#include <algorithm>

#include "cpu/gemm/finishing.h"
#include "cpu/gemm/prefetch_shares.h"
#include "cpu/gemm/product.h"

namespace moe::cpu {

// Reads a panel's scales before its codes, so that the panel is a single stream in the order of memory. Hardware
// prefetches such a stream unless it comes too fast, so each read waits some ten cycles for the one before.
inline void read_scales(const char* panel, int64_t bytes) {
  uint32_t sum = 0;
  for (const char *line = panel, *end = panel + bytes; line < end; line += kLineBytes) {
    sum = (sum * 3 + *reinterpret_cast<const volatile uint8_t*>(line)) * 5;
  }
  [[maybe_unused]] volatile uint32_t kept = sum;
}

// One thread's part of a product. Sums of groups end at the same k whatever the number of rows, so a row's result does
// not depend on its tile.
template <class Store>
class ProductThread {
 public:
  ProductThread(const Product& product, int thread, const Product::ThreadMemory& memory, Store& store)
      : product_(product),
        layout_(product.layout()),
        gemm_(*product.gemm),
        tokens_(product.weights->inputs().tokens()),
        scales_groups_(tokens_.coded() && !tokens_.scales_rows()),
        expands_(!layout_.grid.absent()),
        packs_(product.weights->borrows()),
        thread_(thread),
        memory_(memory),
        finishing_(product, store) {}

  // `next` is the item that probably follows, or null: its first panel is prefetched.
  void compute(const WorkItem& item, const WorkItem* next) {
    if (product_.threads_pack()) pack_rows(item);
    if (layout_.padded_k == 0) return finish_without_k(item);
    const Reading reading = reading_of(item, next);
    int64_t k = 0;
    do {
      const KBlock block = block_at(item, k);
      TileArguments arguments = arguments_of(reading, block);
      for (int64_t p = 0, panels; p < item.panels; p += panels) {
        panels = p + reading.wide.panels <= item.panels ? reading.wide.panels : 1;
        multiply(reading, block, p, panels, arguments);
      }
      k += block.count;
    } while (k < layout_.padded_k);
  }
  // After the last item.
  void finish() { finishing_.complete(); }

 private:
  // A part of a panel.
  struct PanelPart {
    const char* panel;
    int64_t begin, end;
  };

  // How an item's panels are read.
  struct Reading {
    const WorkItem& item;
    const RowTile* tiles;
    bool shared;  // by several tiles; a single tile reads its panels from end to end
    bool keeps_sums;
    bool in_order;  // scales before codes, see read_scales()
    bool ahead;     // a single tile prefetches all of the next panel
    bool unpacks;
    WideTile wide;
    const WorkItem* next;  // the item that probably follows, or null
  };

  struct KBlock {
    int64_t k, count;
    bool last;
    int64_t first_code;  // where its codes begin in a panel
    int64_t begin, end;  // its part of a panel; that of the first block begins with the scales
  };

  // Whether tiles read panels that were made in the cache.
  bool makes_panels() const { return expands_ || packs_; }

  const RowTile* tiles_of(const WorkItem& item) const { return product_.tiles->data() + item.first_tile; }

  // Packs the rows of the item's block, unless they are those of the item before.
  void pack_rows(const WorkItem& item) {
    if (packed_tile_ == item.first_tile) return;
    packed_tile_ = item.first_tile;
    finishing_.complete();
    const RowTile* tiles = tiles_of(item);
    memory_.rows.first_row = tiles[0].first_row;
    for (int64_t i = 0; i < item.tiles; ++i) product_.make_tile(thread_, tiles[i], memory_.rows);
  }

  // Where a panel of the item is; not for panels that are packed when they are needed.
  const char* panel_of(const WorkItem& item, int64_t p) const {
    return product_.weights->data() + tiles_of(item)->expert * layout_.expert_bytes() +
           (item.first_panel + p) * layout_.panel_bytes;
  }

  Reading reading_of(const WorkItem& item, const WorkItem* next) const {
    const RowTile* tiles = tiles_of(item);
    const bool shared = item.tiles > 1;
    const WideTile wide = shared || packs_ ? WideTile{} : gemm_.wide_tile[tiles[0].rows];
    return {.item = item,
            .tiles = tiles,
            .shared = shared,
            .keeps_sums = product_.keeps_sums(item),
            .in_order = !shared && !makes_panels() && tiles[0].rows <= gemm_.in_order_rows,
            .ahead = !shared && wide.panels == 1 && gemm_.ahead && layout_.panel_bytes <= kMostAhead,
            .unpacks = gemm_.unpacked.unpack != nullptr && item.tiles >= gemm_.unpacked.at_least,
            .wide = wide,
            .next = next};
  }

  // The block of k that begins at `k`. A single tile is multiplied by all k at once.
  KBlock block_at(const WorkItem& item, int64_t k) const {
    const int64_t most = item.tiles > 1 ? product_.plan.k_block : layout_.padded_k;
    const int64_t count = std::min(most, layout_.padded_k - k);
    const bool last = k + count >= layout_.padded_k;
    const int64_t first_code = layout_.place_of(k);
    return {.k = k,
            .count = count,
            .last = last,
            .first_code = first_code,
            .begin = k == 0 ? 0 : first_code,
            .end = last ? layout_.panel_bytes : layout_.place_of(k + count)};
  }

  // Where tiles find a panel of the item.
  const char* read_panel(const Reading& reading, int64_t p) const {
    if (!packs_) return panel_of(reading.item, p);
    product_.weights->pack(reading.tiles[0].expert, reading.item.first_panel + p, memory_.made);
    return memory_.made;
  }

  // What is read after a block of k of the panels before `p`: that of the next one; after the last one, the first
  // panel's next block.
  PanelPart part_at(const Reading& reading, const KBlock& block, int64_t p) const {
    const WorkItem &item = reading.item, &next = reading.next == nullptr ? item : *reading.next;
    if (p < item.panels) return {panel_of(item, p), block.begin, block.end};
    // Without a next item, what lies behind this one, as kernels always read on.
    const char* after = reading.next == nullptr ? panel_of(item, item.panels) : panel_of(next, 0);
    // A panel alone prefetches each of its blocks for the next one.
    if (item.panels == 1) return {after, block.begin, block.end};
    if (block.last) return {after, 0, block_at(next, 0).end};
    const KBlock again = block_at(item, block.k + block.count);
    return {panel_of(item, 0), again.begin, again.end};
  }

  // What the calls for a panel prefetch before `next` is read. Tiles that share a panel each prefetch a share of the
  // same part of the next panel, and so does unpacking. A single tile reads its panels from memory: unless they were
  // expanded, it prefetches codes a little ahead itself, so only the next panel's scales, a second stream, are left.
  // Where scales and codes are one stream, nothing is left. Or it is told to prefetch all of the next panel.
  PrefetchShares prefetches(const Reading& reading, const PanelPart& next) const {
    const WorkItem& item = reading.item;
    const bool all = reading.shared || expands_ || reading.ahead;
    const int64_t bytes = reading.in_order ? 0 : (all ? next.end : layout_.levels.bytes) - next.begin;
    const bool several = reading.shared || (reading.ahead && reading.tiles[0].rows > gemm_.one_stream_rows);
    const int streams = several ? gemm_.streams : 1;
    return {next.panel + next.begin, bytes, streams, item.tiles + (reading.unpacks ? 1 : 0)};
  }

  // What is the same for all panels and tiles that a block of k is multiplied by.
  TileArguments arguments_of(const Reading& reading, const KBlock& block) {
    TileArguments t{.first_k = block.k,
                    .k = block.count,
                    .block_k = product_.plan.k_block,
                    .accumulate = block.k > 0,
                    .panel_bytes = layout_.panel_bytes,
                    .scales = &layout_.scales,
                    .x_scale_stride = memory_.rows.scales_per_row,
                    .x_scale_segments = scales_groups_ ? layout_.scales.segments_in(tokens_.columns) : 0};
    if (reading.in_order) t.distance = kJustAhead;
    if (!reading.shared && !makes_panels() && !product_.cached) t.past_caches = gemm_.past_caches;
    // A single tile waits for memory, which it asks for too late after work aside.
    if (reading.shared && is_tiles(gemm_.arithmetic)) t.aside = &finishing_.aside();
    return t;
  }

  // Multiplies all tiles of an item by its panels p .. p + panels - 1. The arguments are used again: to make them anew
  // takes as long as some products of a single row.
  void multiply(const Reading& reading, const KBlock& block, int64_t p, int64_t panels, TileArguments& t) {
    const WorkItem& item = reading.item;
    const int64_t panel = item.first_panel + p;
    const char* base = read_panel(reading, p);
    const PanelPart next = packs_ ? PanelPart{} : part_at(reading, block, p + panels);
    PrefetchShares shares = packs_ ? PrefetchShares() : prefetches(reading, next);
    if (reading.in_order) read_scales(base, layout_.levels.bytes);
    const PanelParts parts = layout_.parts(*product_.kernels, base, block.k, block.count, memory_.made);
    t.w = parts.codes;
    t.panel = parts.scales;
    t.next = next_codes(reading, block, next.panel);
    if (reading.unpacks) {
      shares.take(t.prefetch);
      gemm_.unpacked.unpack(t, memory_.unpacked);
      t.w = memory_.unpacked;
    }
    const TileFunctions& functions = reading.unpacks ? gemm_.unpacked.tile : gemm_.tile;
    for (int64_t i = 0; i < item.tiles; ++i) {
      const RowTile& tile = reading.tiles[i];
      t.rows = tile.rows;
      t.x = memory_.rows.x_of(tile) + block.k * tile.rows * element_bytes(gemm_.arithmetic);
      t.c = sums_of(reading, p, i);
      t.x_sums = x_sums_of(tile, block.k);
      t.x_scales = scales_groups_ ? memory_.rows.scales_of(tile) : nullptr;
      shares.take(t.prefetch);
      const TileFunction function = panels > 1 ? reading.wide.function : functions[tile.rows];
      function(t);
      finishing_.complete();
      if (!block.last) continue;
      for (int64_t j = 0; j < panels; ++j) {
        finishing_.begin(tile, memory_.rows, panel + j, t.c + j * tile.rows * layout_.panel_columns);
        if (t.aside == nullptr) finishing_.complete();
      }
    }
  }

  float* sums_of(const Reading& reading, int64_t p, int64_t tile) {
    const int64_t passing = product_.passing_sums();
    if (reading.keeps_sums) return memory_.sums + 2 * passing + (p * reading.item.tiles + tile) * product_.tile_sums();
    second_ = !second_;
    return memory_.sums + (second_ ? passing : 0);
  }

  // Where a single tile reads on after a panel's codes; null if it does not prefetch them itself.
  const char* next_codes(const Reading& reading, const KBlock& block, const char* next_panel) const {
    if (reading.shared || reading.ahead || makes_panels()) return nullptr;
    return reading.in_order ? next_panel : next_panel + block.first_code;
  }

  const float* x_sums_of(const RowTile& tile, int64_t k) const {
    const float* sums = memory_.rows.sums_of(tile);
    return sums == nullptr ? nullptr : sums + layout_.scales.segments_in(k) * tile.rows * gemm_.row_sums;
  }

  // Without any k, there is nothing that a kernel could read: sums are zeros, and results are the bias.
  void finish_without_k(const WorkItem& item) {
    for (int64_t i = 0; i < item.tiles; ++i) {
      const RowTile& tile = (*product_.tiles)[item.first_tile + i];
      for (int64_t p = 0; p < item.panels; ++p) {
        std::fill_n(memory_.sums, tile.rows * layout_.panel_columns, 0.0f);
        finishing_.begin(tile, memory_.rows, item.first_panel + p, memory_.sums);
        finishing_.complete();
      }
    }
  }

  // A longer panel might leave the second-level cache before it is read.
  static constexpr int64_t kMostAhead = int64_t{512} << 10;

  // A panel that is one stream is prefetched just ahead of where it is read, in case the hardware does not do so. It
  // does for plain weights on the processors that read panels in order, where more requests would only get in its way.
  static constexpr int64_t kJustAhead = 1024;

  const Product& product_;
  const PanelLayout& layout_;
  const GemmKernel& gemm_;
  const TokenScheme& tokens_;
  const bool scales_groups_;  // x are codes whose scales are those of groups of k, not of rows
  const bool expands_;        // weights are units of grids
  const bool packs_;          // panels are packed when they are needed
  const int thread_;
  Product::ThreadMemory memory_;
  int64_t packed_tile_ = -1;  // the first of those that memory_.rows has
  bool second_ = false;       // which place the last sums took that are not kept
  Finishing<Store> finishing_;
};

}  // namespace moe::cpu
