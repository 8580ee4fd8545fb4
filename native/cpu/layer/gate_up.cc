// The inner activations of every row: act(gate x) * (up x) * (multiplier x), packed for the down product. Gate and up
// are one product if they have the same format, otherwise two. Each group of experts has products of its own.
#include <algorithm>

#include "cpu/gemm/streams.h"
#include "cpu/layer/stage.h"
#include "cpu/layer/token_packer.h"

namespace moe::cpu {

namespace {

using Group = LayerWeights::Group;

const float* bias_of(const Pass& pass, const Group& group) {
  const float* bias = floats(pass.weights.gate_up_bias);
  return bias == nullptr ? nullptr : bias + group.experts.first * pass.layer.gate_up_rows();
}

Operand up_of(const Pass& pass, const Group& group) {
  const float* bias = bias_of(pass, group);
  const bool apart = group.gate != nullptr;
  return pass.operand(*group.gate_up, pass.tokens.dtype,
                      bias == nullptr || !apart ? bias : bias + pass.layer.intermediate, pass.layer.gate_up_rows());
}

Operand gate_of(const Pass& pass, const Group& group) {
  return pass.operand(*group.gate, pass.tokens.dtype, bias_of(pass, group), pass.layer.gate_up_rows());
}

Operand multiplier_of(const Pass& pass, const Group& group) {
  return pass.operand(*group.multiplier, pass.tokens.dtype);
}

void take(Pass& pass, StageMemory& memory) {
  const int64_t rows = pass.most_rows(), hidden = pass.layer.hidden, intermediate = pass.layer.intermediate;
  int64_t scales = 0, rounded = 0;
  bool has_gate = false, changes_inner = false;
  pass.state.inner_row_bytes = 0;
  for (const Group& group : pass.weights.groups) {
    for (const CpuPackedExperts* weights : {group.gate_up.get(), group.gate.get(), group.multiplier.get()}) {
      if (weights == nullptr || !weights->inputs().rounds_alike()) continue;
      scales = std::max(scales, weights->inputs().scales_per_row());
      rounded = pass.tokens.count;
    }
    has_gate = has_gate || group.gate != nullptr;
    const Operand down = pass.down(group);
    if (down.needs_whole_rows()) {
      changes_inner = true;
    } else {
      pass.state.inner_row_bytes = std::max(pass.state.inner_row_bytes, down.row_bytes());
    }
  }
  if (has_gate) pass.scratch.gate = memory.scratch.take<float>(rows * intermediate);
  if (pass.layer.multiplier) pass.scratch.multiplier = memory.scratch.take<float>(rows * intermediate);
  pass.scratch.rounded.codes = memory.scratch.take<bf16>(rounded * hidden);
  pass.scratch.rounded.scales = memory.scratch.take<float>(rounded * scales);
  pass.scratch.input_lines.take(memory.scratch, pass.threads(), RowPacker::line_floats(hidden));
  pass.state.inner_tiles = memory.state.take<char>(rows * pass.state.inner_row_bytes);
  if (changes_inner) pass.state.inner = memory.state.take<float>(rows * intermediate);
}

// All products of a group use tiles of the same height, since one reads what another stored.
int tile_rows(const Pass& pass, const Group& group) {
  int rows = std::min(up_of(pass, group).gemm.max_rows, pass.down(group).gemm.max_rows);
  if (group.gate != nullptr) rows = std::min(rows, gate_of(pass, group).gemm.max_rows);
  if (group.multiplier != nullptr) rows = std::min(rows, multiplier_of(pass, group).gemm.max_rows);
  return rows;
}

void round_tokens(Pass& pass, const Operand& operand) {
  RoundedTokens& rounded = pass.scratch.rounded;
  const ExpertInputs& inputs = operand.weights.inputs();
  if (!inputs.rounds_alike() || rounded.scheme == inputs.tokens()) return;
  rounded.scheme = inputs.tokens();
  const RowPacker packer(pass.kernels, operand.gemm, operand.weights, pass.tokens.dtype);
  const int64_t hidden = pass.layer.hidden, scales = inputs.scales_per_row();
  const Work work{.bytes = 8.0 * static_cast<double>(pass.tokens.count * hidden)};
  pass.for_items(pass.tokens.count, work, [&](const Worker& worker, int64_t token) {
    packer.round(pass.token(token), rounded.codes + token * hidden, pass.scratch.input_lines.of(worker.index),
                 rounded.scales + token * scales);
  });
}

// After their rounding.
TokenPacker token_packer(Pass& pass, const Operand& operand) {
  round_tokens(pass, operand);
  return {pass, operand, pass.state.token_of_row, pass.state.weight_of_row};
}

Status multiply(Pass& pass, const Operand& operand, const std::vector<RowTile>& tiles, const TensorView& kept,
                float* results) {
  const TokenPacker packer = token_packer(pass, operand);
  return pass.multiply(operand, {tiles, &packer}, {kept}, results);
}

void multiply_values(const float* by, int64_t intermediate, const TileResults& tile, int64_t first, int64_t count,
                     int64_t columns) {
  if (by == nullptr) return;
  for (int r = 0; r < tile.rows; ++r) {
    const float* values = by + (tile.row() + r) * intermediate + first;
    for (int64_t i = 0; i < count; ++i) tile.c[r * columns + i] *= values[i];
  }
}

// Makes columns begin .. end - 1 zeros. Those after the last output hold activated zeros, some of which are not zeros,
// or NaN where x is not finite; and the codes that the down product multiplies them by need not mean zero.
void clear_columns(const TileResults& tile, int64_t begin, int64_t end, int64_t columns) {
  if (begin == end) return;
  for (int r = 0; r < tile.rows; ++r) std::fill_n(tile.c + r * columns + begin, end - begin, 0.0f);
}

Status run_group(Pass& pass, const Group& group, const std::vector<RowTile>& tiles) {
  const bool has_gate = group.gate != nullptr, has_multiplier = group.multiplier != nullptr;
  const TensorView &pre = pass.tokens.pre, &multiplied = pass.tokens.multiplied;
  if (has_multiplier) MOE_TRY(multiply(pass, multiplier_of(pass, group), tiles, multiplied, pass.scratch.multiplier));
  if (has_gate) MOE_TRY(multiply(pass, gate_of(pass, group), tiles, pre, pass.scratch.gate));
  const float* gate = has_gate ? pass.scratch.gate : nullptr;
  const float* multiplier = has_multiplier ? pass.scratch.multiplier : nullptr;
  const Operand up = up_of(pass, group), down = pass.down(group);
  const PanelLayout& layout = up.weights.layout();
  const int64_t inner_k = packed_row_k(down.gemm, down.weights.layout());
  const int64_t intermediate = pass.layer.intermediate;
  const bool changes_inner = down.needs_whole_rows();
  const bool streams = are_streamed(pass.most_rows() * intermediate * int64_t{sizeof(float)});
  float* rows = pass.state.inner;
  const RowsBefore before{pre, has_gate ? intermediate : 0, intermediate};
  DirectResults direct;
  if (!has_gate && !has_multiplier) {
    if (changes_inner) {
      direct = direct_matrix(rows, intermediate, streams);
    } else if (down.gemm.arithmetic == Arithmetic::bf16_tiles) {
      direct = {pass.state.inner_tiles, pass.state.inner_row_bytes, ResultStorage::bf16};
    }
  }
  const TokenPacker packer = token_packer(pass, up);
  return pass.multiply(up, {tiles, &packer}, before, direct, [&](const TileResults& tile) {
    const int64_t first = tile.panel * layout.outputs_per_panel;
    const int64_t count = std::min(layout.outputs_per_panel, intermediate - first);
    multiply_values(gate, intermediate, tile, first, count, layout.panel_columns);
    multiply_values(multiplier, intermediate, tile, first, count, layout.panel_columns);
    if (changes_inner) {
      float* target = rows + tile.row() * intermediate + first;
      return pass.kernels.store_rows(tile.c, tile.rows, count, target, intermediate, streams);
    }
    clear_columns(tile, count, layout.outputs_per_panel, layout.panel_columns);
    const PackedTile inner{pass.state.inner_tiles + tile.tile.first_row * pass.state.inner_row_bytes, tile.tile.rows,
                           tile.first_row};
    pass.kernels.pack_columns(down.gemm.arithmetic, tile.c, first, std::min(layout.outputs_per_panel, inner_k - first),
                              tile.rows, inner);
    // If the down product's steps are longer, fill up with zeros after the last panel.
    if (tile.panel + 1 < layout.panels) return;
    std::fill_n(tile.c, tile.rows * layout.panel_columns, 0.0f);
    for (int64_t k = first + layout.outputs_per_panel; k < inner_k; k += layout.panel_columns) {
      pass.kernels.pack_columns(down.gemm.arithmetic, tile.c, k, std::min(layout.panel_columns, inner_k - k), tile.rows,
                                inner);
    }
  });
}

// Rows without an expert are the last.
void clear_kept(const Pass& pass, const TensorView& kept) {
  if (kept.absent()) return;
  const int64_t row_bytes = kept.shape[1] * static_cast<int64_t>(info(kept.dtype).bytes);
  const int64_t used = pass.state.offsets[pass.layer.all_experts()];
  std::fill_n(kept.as<char>() + used * row_bytes, (pass.most_rows() - used) * row_bytes, char{0});
}

Status run(Pass& pass) {
  for (const TensorView& kept : {pass.tokens.pre, pass.tokens.multiplied}) clear_kept(pass, kept);
  pass.state.group_tiles.clear();
  for (const Group& group : pass.weights.groups) {
    pass.state.group_tiles.push_back(
        plan_tiles(pass.state.offsets + group.experts.first, group.experts.count, tile_rows(pass, group)));
    MOE_TRY(run_group(pass, group, pass.state.group_tiles.back()));
  }
  return {};
}

}  // namespace

const CpuStage gate_up_stage{.take = take, .run = run};

}  // namespace moe::cpu
