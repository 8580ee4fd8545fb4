// Makes results of a product's sums.
#pragma once

#include <algorithm>

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

// Turns the sums of a tile and a panel into results and stores them: store(TileResults), in any number of parts. They
// are finished while the next tile is multiplied, or after that.
template <class Store>
class Finishing final : public Aside {
 public:
  Finishing(const Product& product, Store& store) : product_(product), layout_(product.layout()), store_(store) {}

  // After complete(). The sums stay where they are until then.
  void begin(const RowTile& tile, int64_t panel, float* c) {
    tile_ = &tile;
    panel_ = panel;
    c_ = c;
    finished_ = 0;
    if (product_.bias != nullptr) load_bias();
  }
  void share(int64_t shares) override {
    if (tile_ != nullptr) finish(static_cast<int>(ceil_divide(tile_->rows - finished_, shares)));
  }
  void complete() {
    if (tile_ != nullptr) finish(tile_->rows - finished_);
  }

 private:
  void finish(int rows) {
    const TileResults results{*tile_, finished_, rows, panel_, c_ + finished_ * layout_.panel_columns};
    finished_ += rows;
    if (finished_ == tile_->rows) tile_ = nullptr;
    finish(results);
  }

  void finish(const TileResults& results) {
    const auto& [tile, first_row, rows, panel, c] = results;
    const Kernels& kernels = *product_.kernels;
    const ExpertProduct& weights = product_.weights->weights();
    if (const float* units = product_.units_of(tile)) kernels.scale_rows(units + first_row, rows, c);
    if (product_.row_scales != nullptr && product_.weights->inputs().tokens().scales_rows()) {
      kernels.scale_rows(product_.row_scales + results.row(), rows, c);
    }
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
  const RowTile* tile_ = nullptr;  // null: nothing is to be finished
  int64_t panel_ = 0;
  float* c_ = nullptr;
  int finished_ = 0;  // rows
  alignas(64) float bias_[kMostPanelColumns];
};

}  // namespace moe::cpu
