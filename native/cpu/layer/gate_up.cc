// The inner activations of every row: act(gate x) * (up x) * (factor x), packed for the down product. Gate and up are
// one product if they have the same format, otherwise two.
#include <algorithm>
#include <cstring>

#include "cpu/layer/stage.h"

namespace moe::cpu {

namespace {

Operand up_of(const Pass& pass) {
  const int64_t stride = pass.layer.gate_up_rows();
  const float* bias = floats(pass.weights.gate_up_bias);
  const bool apart = pass.weights.gate != nullptr;
  return pass.operand(*pass.weights.gate_up, pass.tokens.dtype,
                      bias == nullptr || !apart ? bias : bias + pass.layer.intermediate, stride);
}

Operand gate_of(const Pass& pass) {
  return pass.operand(*pass.weights.gate, pass.tokens.dtype, floats(pass.weights.gate_up_bias),
                      pass.layer.gate_up_rows());
}

Operand factor_of(const Pass& pass) { return pass.operand(*pass.weights.factor, pass.tokens.dtype); }

Operand down_of(const Pass& pass) { return pass.operand(*pass.weights.down, pass.tokens.dtype); }

void take(Pass& pass, StageMemory& memory) {
  const int64_t rows = pass.most_rows();
  int64_t row_bytes = up_of(pass).row_bytes();
  if (pass.weights.gate != nullptr) {
    row_bytes = std::max(row_bytes, gate_of(pass).row_bytes());
    pass.scratch.gate = memory.scratch.take<float>(rows * pass.layer.intermediate);
  }
  if (pass.weights.factor != nullptr) {
    row_bytes = std::max(row_bytes, factor_of(pass).row_bytes());
    pass.scratch.factor = memory.scratch.take<float>(rows * pass.layer.intermediate);
  }
  pass.scratch.rows.data = memory.scratch.take<char>(rows * row_bytes);
  if (pass.layer.weight_on == WeightPlace::input) {
    pass.scratch.input_line = memory.scratch.take<float>(pass.threads() * pass.layer.hidden);
  }
  pass.state.inner_tiles = memory.state.take<char>(rows * down_of(pass).row_bytes());
}

// All products use tiles of the same height, since one reads what another stored.
int tile_rows(const Pass& pass) {
  int rows = std::min(up_of(pass).gemm.max_rows, down_of(pass).gemm.max_rows);
  if (pass.weights.gate != nullptr) rows = std::min(rows, gate_of(pass).gemm.max_rows);
  if (pass.weights.factor != nullptr) rows = std::min(rows, factor_of(pass).gemm.max_rows);
  return rows;
}

void pack_rows(Pass& pass, const Operand& operand) {
  PackedRows& packed = pass.scratch.rows;
  const PanelLayout& layout = operand.weights.layout();
  if (packed.suit(operand.gemm, layout)) return;
  packed.gemm = &operand.gemm;
  packed.padded_k = layout.padded_k;
  const Arithmetic arithmetic = operand.gemm.arithmetic;
  const int64_t hidden = pass.layer.hidden;
  const Work work{.bytes = 8.0 * static_cast<double>(pass.most_rows() * hidden)};
  pass.for_items(std::ssize(pass.state.row_tiles), work, [&](const Worker& worker, int64_t i) {
    const RowTile& tile = pass.state.row_tiles[i];
    char* target = packed.data + tile.first_row * operand.row_bytes();
    for (int32_t r = 0; r < tile.rows; ++r) {
      const int64_t row = tile.first_row + r;
      const char* x = pass.token(pass.state.token_of_row[row]);
      if (pass.state.weight_of_row == nullptr) {
        pass.kernels.pack_row(arithmetic, pass.tokens.dtype, x, hidden, packed.padded_k, target, r, tile.rows);
        continue;
      }
      float* line = pass.scratch.input_line + worker.index * hidden;
      pass.kernels.to_f32(pass.tokens.dtype, x, hidden, line);
      for (int64_t h = 0; h < hidden; ++h) line[h] *= pass.state.weight_of_row[row];
      pass.kernels.pack_row(arithmetic, DType::f32, line, hidden, packed.padded_k, target, r, tile.rows);
    }
  });
}

Status multiply(Pass& pass, const Operand& operand, float* results) {
  pack_rows(pass, operand);
  return pass.multiply(operand, pass.scratch.rows.data, pass.state.row_tiles, results);
}

void multiply_values(const float* by, int64_t intermediate, const RowTile& tile, int64_t first, int64_t count,
                     int64_t columns, float* c) {
  if (by == nullptr) return;
  for (int32_t r = 0; r < tile.rows; ++r) {
    const float* factor = by + (tile.first_row + r) * intermediate + first;
    for (int64_t i = 0; i < count; ++i) c[r * columns + i] *= factor[i];
  }
}

Status run(Pass& pass) {
  pass.state.row_tiles = plan_tiles(pass.state.offsets, pass.layer.all_experts(), tile_rows(pass));
  if (pass.weights.factor != nullptr) MOE_TRY(multiply(pass, factor_of(pass), pass.scratch.factor));
  if (pass.weights.gate != nullptr) MOE_TRY(multiply(pass, gate_of(pass), pass.scratch.gate));
  const Operand up = up_of(pass), down = down_of(pass);
  const PanelLayout& layout = up.weights.layout();
  const int64_t inner_k = down.weights.layout().padded_k;
  const int64_t inner_bytes = down.row_bytes();
  const int64_t element = element_bytes(down.gemm.arithmetic);
  const int64_t intermediate = pass.layer.intermediate;
  pack_rows(pass, up);
  return pass.multiply(
      up, pass.scratch.rows.data, pass.state.row_tiles, [&](const RowTile& tile, int64_t panel, float* c) {
        const int64_t first = panel * layout.outputs_per_panel;
        const int64_t count = std::min(layout.outputs_per_panel, intermediate - first);
        multiply_values(pass.scratch.gate, intermediate, tile, first, count, layout.panel_columns, c);
        multiply_values(pass.scratch.factor, intermediate, tile, first, count, layout.panel_columns, c);
        char* inner = pass.state.inner_tiles + tile.first_row * inner_bytes;
        pass.kernels.pack_columns(down.gemm.arithmetic, c, first, std::min(layout.outputs_per_panel, inner_k - first),
                                  inner, tile.rows);
        // If the down product's steps are longer, fill up with zeros after the last panel.
        const int64_t end = first + layout.outputs_per_panel;
        if (panel + 1 == layout.panels && end < inner_k) {
          std::memset(inner + end * tile.rows * element, 0, static_cast<size_t>((inner_k - end) * tile.rows * element));
        }
      });
}

}  // namespace

const CpuStage gate_up_stage{.take = take, .run = run};

}  // namespace moe::cpu
