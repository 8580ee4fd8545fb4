#include "cpu/gemm/row_product.h"

#include <algorithm>
#include <vector>

#include "cpu/gemm/product.h"
#include "cpu/gemm/row_packer.h"
#include "cpu/runtime/indices.h"

namespace moe::cpu {

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
                  .x = nullptr,
                  .x_row_bytes = packed_row_bytes(gemm, layout),
                  .bias = nullptr,
                  .bias_stride = weights.rows,
                  .tiles = &row_tiles,
                  .plan = {}};

  char* x = nullptr;
  const ExpertInputs& inputs = p.weights->inputs();
  float *bias = nullptr, *lines = nullptr, *scales = nullptr;
  const int64_t line_floats = inputs.as_they_are() ? 0 : RowPacker::line_floats(weights.columns);
  MOE_TRY(reserve_workspace(context, [&](Arena& arena) {
    x = arena.take<char>(rows * product.x_row_bytes);
    lines = arena.take<float>(context.team.threads * line_floats);
    if (inputs.tokens().coded()) scales = arena.take<float>(rows * inputs.scales_per_row());
    if (!p.bias.absent()) bias = arena.take<float>(p.bias.size());
  }));
  product.x = x;
  product.row_scales = scales;
  if (bias != nullptr) {
    kernels.to_f32(p.bias.dtype, p.bias.data, p.bias.size(), bias);
    product.bias = bias;
  }

  const int64_t x_rows = p.x.shape[0];
  const int64_t outputs = weights.outputs();
  const std::vector<char> zeros(static_cast<size_t>(p.x.row_bytes()), 0);
  ItemQueue& queue = context.queue;
  queue.reset(static_cast<int64_t>(row_tiles.size()));
  const RowPacker packer(kernels, gemm, *p.weights, p.x.dtype);
  const Work packing{.bytes = 8.0 * static_cast<double>(rows * weights.columns)};
  context.team.share(std::ssize(row_tiles), packing, [&](const Worker& worker) {
    for (int64_t i; (i = queue.next(worker.index)) >= 0;) {
      const RowTile& tile = row_tiles[i];
      for (int32_t r = 0; r < tile.rows; ++r) {
        const int64_t row = tile.first_row + r;
        const int64_t source = p.token_of_row == nullptr ? row : index_or_none(p.token_of_row[row], x_rows);
        const char* values = source < 0 ? zeros.data() : p.x.at(source);
        packer.pack(tile, r, values, nullptr, x + tile.first_row * product.x_row_bytes,
                    lines + worker.index * line_floats,
                    scales == nullptr ? nullptr : scales + row * inputs.scales_per_row());
      }
    }
  });
  const bool plain_rows = p.y.dtype == DType::f32 && p.token_of_row == nullptr;
  const bool streams = plain_rows && results_are_streamed(rows * outputs);
  return run_product(context, product, [&](const RowTile& tile, int64_t panel, const float* c) {
    const int64_t first = panel * layout.outputs_per_panel;
    const int64_t count = std::min(layout.outputs_per_panel, outputs - first);
    if (plain_rows) {
      float* target = p.y.as<float>() + tile.first_row * outputs + first;
      return kernels.store_rows(c, tile.rows, count, target, outputs, streams);
    }
    for (int32_t r = 0; r < tile.rows; ++r) {
      const int64_t row = tile.first_row + r;
      if (p.token_of_row != nullptr && index_or_none(p.token_of_row[row], x_rows) < 0) continue;
      kernels.from_f32(p.y.dtype, c + r * layout.panel_columns, count, p.y.at(row, first));
    }
  });
}

}  // namespace moe::cpu
