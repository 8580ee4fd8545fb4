#include "cpu/gemm/row_product.h"

#include <algorithm>
#include <vector>

#include "cpu/gemm/row_packer.h"
#include "cpu/gemm/run_product.h"
#include "cpu/gemm/streams.h"
#include "cpu/runtime/indices.h"

namespace moe::cpu {

namespace {

// Rows without a token are zeros.
class InputPacker final : public TilePacker {
 public:
  InputPacker(const Kernels& kernels, const RowProduct& p, const GemmKernel& gemm)
      : p_(p), packer_(kernels, gemm, *p.weights, p.x.dtype), zeros_(static_cast<size_t>(p.x.row_bytes()), 0) {}

  // Before pack().
  void take(Arena& arena, int64_t threads) {
    lines_.take(arena, threads,
                p_.weights->inputs().as_they_are() ? 0 : RowPacker::line_floats(p_.weights->weights().columns));
  }

  void pack(int thread, const RowTile& tile, char* x, float* scales) const override {
    for (int32_t r = 0; r < tile.rows; ++r) {
      const int64_t row = tile.first_row + r;
      const int64_t source = p_.token_of_row == nullptr ? row : index_or_none(p_.token_of_row[row], p_.x.shape[0]);
      packer_.pack(tile, r, source < 0 ? zeros_.data() : p_.x.at(source), nullptr, x, lines_.of(thread), scales);
    }
  }

 private:
  const RowProduct& p_;
  const RowPacker packer_;
  const std::vector<char> zeros_;
  RowLines lines_;
};

}  // namespace

Status multiply_rows(Context& context, const RowProduct& p) {
  const Kernels& kernels = context.kernels;
  const ExpertProduct& weights = p.weights->weights();
  const GemmKernel& gemm = *choose_gemm(kernels.gemm, p.weights->inputs().as_read(p.arithmetic_dtype), *weights.format);
  const PanelLayout& layout = p.weights->layout();
  const std::vector<RowTile> row_tiles = plan_tiles(p.offsets, weights.experts, gemm.max_rows);
  const int64_t rows = p.offsets[weights.experts];
  Product product{.kernels = &kernels,
                  .gemm = &gemm,
                  .weights = p.weights,
                  .bias = nullptr,
                  .bias_stride = weights.rows,
                  .tiles = &row_tiles,
                  .plan = {}};

  InputPacker packer(kernels, p, gemm);
  float* bias = nullptr;
  MOE_TRY(reserve_workspace(context, [&](Arena& arena) {
    packer.take(arena, context.team.threads);
    if (!p.bias.absent()) bias = arena.take<float>(p.bias.size());
  }));
  if (bias != nullptr) kernels.to_f32(p.bias.dtype, p.bias.data, p.bias.size(), bias);
  product.packer = &packer;
  product.bias = bias;

  const int64_t x_rows = p.x.shape[0];
  const int64_t outputs = weights.outputs();
  const bool plain_rows = p.y.dtype == DType::f32 && p.token_of_row == nullptr;
  const bool streams = plain_rows && are_streamed(rows * outputs * int64_t{sizeof(float)});
  if (plain_rows) product.direct = direct_matrix(p.y.as<float>(), outputs, streams);
  return run_product(context, product, [&](const TileResults& tile) {
    const int64_t first = tile.panel * layout.outputs_per_panel;
    const int64_t count = std::min(layout.outputs_per_panel, outputs - first);
    if (plain_rows) {
      float* target = p.y.as<float>() + tile.row() * outputs + first;
      return kernels.store_rows(tile.c, tile.rows, count, target, outputs, streams);
    }
    for (int r = 0; r < tile.rows; ++r) {
      const int64_t row = tile.row() + r;
      if (p.token_of_row != nullptr && index_or_none(p.token_of_row[row], x_rows) < 0) continue;
      kernels.from_f32(p.y.dtype, tile.c + r * layout.panel_columns, count, p.y.at(row, first));
    }
  });
}

}  // namespace moe::cpu
