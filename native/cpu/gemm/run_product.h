// Plans a grouped matrix product and computes it on all threads.
#pragma once

#include <algorithm>
#include <numeric>
#include <vector>

#include "cpu/gemm/product_thread.h"
#include "cpu/runtime/context.h"
#include "cpu/runtime/topology.h"

namespace moe::cpu {

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

// Plans a product and computes it with as many threads as it is worth. Calls store(TileResults) for all rows and
// panels that Product::direct does not say where to store: the first values of each row of c are results.
template <class Store>
Status run_product(Context& context, Product product, Store&& store) {
  const PanelLayout& layout = product.layout();
  // A panel that is packed for an item is multiplied by all its rows.
  Blocking blocking = product.gemm->blocking;
  if (product.weights->borrows()) blocking.longest_k = std::max<int64_t>(1, layout.padded_k);
  product.plan = plan_product(*product.tiles, {.padded_k = layout.padded_k,
                                               .step = std::lcm(layout.step, k_group(product.gemm->arithmetic)),
                                               .panels = layout.panels,
                                               .panels_at_once = product.gemm->panels_at_once(),
                                               .x_bytes = element_bytes(product.gemm->arithmetic),
                                               .tile_bytes = product.tile_sums() * int64_t{sizeof(float)},
                                               .blocking = blocking,
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
    for (int64_t i; (i = context.queue.next(worker.index)) >= 0;) {
      const WorkItem* item = &product.plan.items[i];
      thread.compute(*item, i + 1 < items ? item + 1 : nullptr);
    }
    thread.finish();
    if (product.gemm->release != nullptr) product.gemm->release();
    product.kernels->end_streams();
  });
  return {};
}

}  // namespace moe::cpu
