// Plans a grouped matrix product and computes it on all threads.
#pragma once

#include <algorithm>
#include <numeric>
#include <vector>

#include "cpu/gemm/product_thread.h"
#include "cpu/runtime/context.h"
#include "cpu/runtime/topology.h"

namespace moe::cpu {

// Packs and sums rows that threads do not pack as they need them, once for all panels.
inline Status make_rows(Context& context, Product& product) {
  const std::vector<RowTile>& tiles = *product.tiles;
  const bool packs = product.packer != nullptr;
  int64_t rows = 0, made = 0;
  for (const RowTile& tile : tiles) {
    rows = std::max(rows, tile.first_row + tile.rows);
    if (packs || product.sums_x(tile)) made += tile.rows;
  }
  if (made == 0) return {};
  PackedRows packed;
  MOE_TRY(reserve_parts(context, context.rows, [&](Arena& arena) { packed = product.take_rows(arena, rows); }));
  product.rows = packed;
  context.queue.reset(std::ssize(tiles));
  const int64_t row_bytes = packs ? 8 * product.weights->weights().columns : product.rows.row_bytes;
  context.team.share(std::ssize(tiles), {.bytes = static_cast<double>(made * row_bytes)}, [&](const Worker& worker) {
    for (int64_t i; (i = context.queue.next(worker.index)) >= 0;) {
      product.make_tile(worker.index, tiles[i], product.rows);
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
  if (!product.threads_pack()) MOE_TRY(make_rows(context, product));
  std::vector<Product::ThreadMemory> memory(static_cast<size_t>(context.team.threads));
  MOE_TRY(reserve_parts(context, context.thread_memory, [&](Arena& arena) {
    for (Product::ThreadMemory& part : memory) part = product.take_memory(arena);
  }));
  const int64_t items = std::ssize(product.plan.items);
  context.queue.reset(items);
  context.team.share(items, product.work(), [&](const Worker& worker) {
    ProductThread thread(product, worker.index, memory[worker.index], store);
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
