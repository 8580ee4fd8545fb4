// Makes results of a product's sums.
#pragma once

#include <algorithm>
#include <utility>

#include "cpu/gemm/product.h"

namespace moe::cpu {

// Consecutive rows of a tile, and a panel's results for them.
struct TileResults {
  const RowTile& tile;
  int first_row;  // of the tile's
  int rows;
  int64_t panel;
  float* c;  // [rows, panel_columns]

  // Among the rows of all experts.
  int64_t row() const { return tile.first_row + first_row; }
};

// Turns the sums of a tile and a panel into results and stores them: where Product::direct says, or by
// store(TileResults) in any number of parts. They are finished while the next tile is multiplied, or after that.
template <class Store>
class Finishing {
 public:
  Finishing(const Product& product, Store& store)
      : product_(product),
        layout_(product.layout()),
        store_(store),
        scales_rows_(product.weights->inputs().tokens().scales_rows()),
        direct_(direct_function()) {}
  Finishing(const Finishing&) = delete;
  Finishing& operator=(const Finishing&) = delete;

  Aside& aside() { return rows_; }
  // After complete(). The sums, and what the tile's rows have beside them, stay where they are until then.
  void begin(const RowTile& tile, const PackedRows& packed, int64_t panel, float* c) {
    tile_ = &tile;
    panel_ = panel;
    units_ = product_.units_of(tile, packed);
    rows_.rows = tile.rows;
    rows_.c = c;
    rows_.scales = scales_rows_ ? packed.scales_of(tile) : nullptr;
    if (product_.bias != nullptr) load_bias();
    // The last panel may have fewer outputs than columns, and more to be done.
    if (direct_ == nullptr || panel + 1 == layout_.panels) {
      rows_.finish = finish_parts;
      return;
    }
    rows_.finish = direct_;
    rows_.bias = product_.bias == nullptr ? nullptr : bias_;
    rows_.clamp = &product_.weights->weights().clamps.of(tile.expert);
    set_target(tile, panel * layout_.outputs_per_panel);
  }
  void complete() { rows_.finish_rows(rows_.rows); }

 private:
  // A call of store() for two rows would take longer than these rows.
  static constexpr int kRowsAtOnce = 8;

  struct Rows final : ResultRows {
    Finishing* finishing;
    int waiting = 0;
  };
  static void finish_parts(Aside& aside, int count) {
    Rows& rows = static_cast<Rows&>(aside);
    rows.waiting = std::min(rows.waiting + count, rows.rows);
    if (rows.waiting < std::min(kRowsAtOnce, rows.rows)) return;
    rows.finishing->finish(std::exchange(rows.waiting, 0));
  }

  Aside::Finish direct_function() const {
    const DirectResults& direct = product_.direct;
    if (direct.rows == nullptr || !product_.before.rows.absent() || unit_bytes(product_.gemm->arithmetic) > 0) {
      return nullptr;
    }
    const ExpertProduct& weights = product_.weights->weights();
    return product_.kernels->finishing(weights.activation, weights.part, direct.storage);
  }

  void set_target(const RowTile& tile, int64_t first) {
    const DirectResults& direct = product_.direct;
    char* const rows = direct.rows + tile.first_row * direct.row_bytes;
    if (direct.storage == ResultStorage::bf16) {
      constexpr int64_t kGroup = k_group(Arithmetic::bf16_tiles), kRowBytes = kGroup * int64_t{sizeof(bf16)};
      rows_.target =
          rows + register_rows_before(first, 1, tile.rows) * kRowBytes + first % kGroup * int64_t{sizeof(bf16)};
      rows_.row_bytes = kRowBytes;
    } else {
      rows_.target = rows + first * int64_t{sizeof(float)};
      rows_.row_bytes = direct.row_bytes;
    }
  }

  void finish(int count) {
    const TileResults results{*tile_, tile_->rows - rows_.rows, count, panel_, rows_.c};
    rows_.c += count * layout_.panel_columns;
    rows_.rows -= count;
    finish(results);
  }

  void finish(const TileResults& results) {
    const auto& [tile, first_row, rows, panel, c] = results;
    const Kernels& kernels = *product_.kernels;
    const ExpertProduct& weights = product_.weights->weights();
    if (units_ != nullptr) kernels.scale_rows(units_ + first_row, rows, c);
    if (rows_.scales != nullptr) kernels.scale_rows(rows_.scales + first_row, rows, c);
    const float* bias = product_.bias == nullptr ? nullptr : bias_;
    if (!product_.before.rows.absent()) {
      kernels.activate(Activation::none, ActivationPart::whole, {}, bias, c, rows);
      keep_before(results);
      bias = nullptr;
    }
    kernels.activate(weights.activation, weights.part, weights.clamps.of(tile.expert), bias, c, rows);
    store_(results);
  }

  void keep_before(const TileResults& results) {
    const auto& [rows, first, second] = product_.before;
    const int64_t width = layout_.outputs_per_panel, output = results.panel * width;
    const int64_t count = std::min(width, product_.weights->weights().outputs() - output);
    const auto bytes = static_cast<int64_t>(info(rows.dtype).bytes);
    for (int r = 0; r < results.rows; ++r) {
      const float* values = results.c + r * layout_.panel_columns;
      char* row = rows.as<char>() + ((results.row() + r) * rows.shape[1] + output) * bytes;
      product_.kernels->from_f32(rows.dtype, values, count, row + first * bytes);
      if (width == layout_.panel_columns) continue;
      product_.kernels->from_f32(rows.dtype, values + width, count, row + second * bytes);
    }
  }

  // The bias of the panel's columns, with zeros after the last output.
  void load_bias() {
    const ExpertProduct& weights = product_.weights->weights();
    const float* source = product_.bias + tile_->expert * product_.bias_stride;
    for (int64_t column = 0; column < layout_.panel_columns; ++column) {
      const int64_t half = column / layout_.outputs_per_panel;
      const int64_t output = panel_ * layout_.outputs_per_panel + column % layout_.outputs_per_panel;
      bias_[column] = output < weights.outputs() ? source[half * weights.outputs() + output] : 0.0f;
    }
  }

  const Product& product_;
  const PanelLayout& layout_;
  Store& store_;
  const bool scales_rows_;
  const Aside::Finish direct_;  // null: results need more
  const RowTile* tile_ = nullptr;
  int64_t panel_ = 0;
  const float* units_ = nullptr;  // of the tile's rows, see row_units(); null: none
  Rows rows_{{}, this};
  alignas(64) float bias_[kMostPanelColumns];
};

}  // namespace moe::cpu
