#include "cpu/gemm/row_product.h"

#include <algorithm>
#include <vector>

#include "cpu/gemm/row_packer.h"
#include "cpu/gemm/run_product.h"
#include "cpu/gemm/streams.h"
#include "cpu/runtime/indices.h"

namespace moe::cpu {

namespace {

// Packed rows of x.
struct PackedInputs {
  char* x = nullptr;
  int64_t row_bytes = 0;
  float* scales = nullptr;  // of rounded rows
  float* lines = nullptr;   // for each thread
  int64_t line_floats = 0;
};

// Packs the rows of all tiles; rows without a token are zeros.
void pack_rows(Context& context, const RowProduct& p, const GemmKernel& gemm, const std::vector<RowTile>& tiles,
               const PackedInputs& to) {
  const int64_t x_rows = p.x.shape[0];
  const int64_t scales_per_row = p.weights->inputs().scales_per_row();
  const std::vector<char> zeros(static_cast<size_t>(p.x.row_bytes()), 0);
  ItemQueue& queue = context.queue;
  queue.reset(std::ssize(tiles));
  const RowPacker packer(context.kernels, gemm, *p.weights, p.x.dtype);
  const ExpertProduct& weights = p.weights->weights();
  const Work packing{.bytes = 8.0 * static_cast<double>(p.offsets[weights.experts] * weights.columns)};
  context.team.share(std::ssize(tiles), packing, [&](const Worker& worker) {
    for (int64_t i; (i = queue.next(worker.index)) >= 0;) {
      const RowTile& tile = tiles[i];
      for (int32_t r = 0; r < tile.rows; ++r) {
        const int64_t row = tile.first_row + r;
        const int64_t source = p.token_of_row == nullptr ? row : index_or_none(p.token_of_row[row], x_rows);
        const char* values = source < 0 ? zeros.data() : p.x.at(source);
        packer.pack(tile, r, values, nullptr, to.x + tile.first_row * to.row_bytes,
                    to.lines + worker.index * to.line_floats,
                    to.scales == nullptr ? nullptr : to.scales + row * scales_per_row);
      }
    }
  });
}

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
                  .x = nullptr,
                  .x_row_bytes = packed_row_bytes(gemm, layout),
                  .bias = nullptr,
                  .bias_stride = weights.rows,
                  .tiles = &row_tiles,
                  .plan = {}};

  const ExpertInputs& inputs = p.weights->inputs();
  PackedInputs packed{.row_bytes = product.x_row_bytes,
                      .line_floats = inputs.as_they_are() ? 0 : RowPacker::line_floats(weights.columns)};
  float* bias = nullptr;
  MOE_TRY(reserve_workspace(context, [&](Arena& arena) {
    packed.x = arena.take<char>(rows * packed.row_bytes);
    packed.lines = arena.take<float>(context.team.threads * packed.line_floats);
    if (inputs.tokens().coded()) packed.scales = arena.take<float>(rows * inputs.scales_per_row());
    if (!p.bias.absent()) bias = arena.take<float>(p.bias.size());
  }));
  if (bias != nullptr) kernels.to_f32(p.bias.dtype, p.bias.data, p.bias.size(), bias);
  product.x = packed.x;
  product.row_scales = packed.scales;
  product.bias = bias;
  pack_rows(context, p, gemm, row_tiles, packed);

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
