// The inner activations of every row: act(gate x) * (up x) * (multiplier x), packed for the down product. Gate and up
// are one product if they have the same format, otherwise two. Each group of experts has products of its own.
#include <algorithm>

#include "cpu/gemm/row_packer.h"
#include "cpu/gemm/streams.h"
#include "cpu/layer/stage.h"

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

Operand down_of(const Pass& pass, const Group& group) { return pass.operand(*group.down, pass.tokens.dtype); }

// Whether rows for the down product are known only when all of their elements are.
bool needs_whole_rows(const Operand& down) {
  return !down.weights.inputs().as_they_are() || !packs_pieces(down.gemm.arithmetic);
}

void take(Pass& pass, StageMemory& memory) {
  const int64_t rows = pass.most_rows(), intermediate = pass.layer.intermediate;
  int64_t row_bytes = 0, row_scales = 0, inner_scales = 0, rounded = 0;
  bool has_gate = false, changes_inner = false, changes_rows = pass.layer.weight_on == WeightPlace::input;
  pass.state.inner_row_bytes = 0;
  for (const Group& group : pass.weights.groups) {
    const auto read_tokens = [&](const Operand& operand) {
      row_bytes = std::max(row_bytes, operand.row_bytes());
      row_scales = std::max(row_scales, operand.weights.inputs().scales_per_row());
      changes_rows = changes_rows || !operand.weights.inputs().as_they_are();
      if (operand.weights.inputs().rounds_alike()) rounded = pass.tokens.count;
    };
    read_tokens(up_of(pass, group));
    if (group.gate != nullptr) read_tokens(gate_of(pass, group));
    if (group.multiplier != nullptr) read_tokens(multiplier_of(pass, group));
    has_gate = has_gate || group.gate != nullptr;
    changes_inner = changes_inner || needs_whole_rows(down_of(pass, group));
    inner_scales = std::max(inner_scales, group.down->inputs().scales_per_row());
    pass.state.inner_row_bytes = std::max(pass.state.inner_row_bytes, down_of(pass, group).row_bytes());
  }
  if (has_gate) pass.scratch.gate = memory.scratch.take<float>(rows * intermediate);
  if (pass.layer.multiplier) pass.scratch.multiplier = memory.scratch.take<float>(rows * intermediate);
  if (changes_inner) pass.scratch.inner = memory.scratch.take<float>(rows * intermediate);
  pass.scratch.rows.data = memory.scratch.take<char>(rows * row_bytes);
  pass.scratch.rows.scales = memory.scratch.take<float>(rows * row_scales);
  pass.scratch.rows.token_codes = memory.scratch.take<bf16>(rounded * pass.layer.hidden);
  pass.scratch.rows.token_scales = memory.scratch.take<float>(rounded * row_scales);
  pass.scratch.line_floats =
      changes_rows || changes_inner ? RowPacker::line_floats(std::max(pass.layer.hidden, intermediate)) : 0;
  pass.scratch.input_line = memory.scratch.take<float>(pass.threads() * pass.scratch.line_floats);
  pass.state.inner_tiles = memory.state.take<char>(rows * pass.state.inner_row_bytes);
  pass.state.inner_scales = memory.state.take<float>(rows * inner_scales);
}

// All products of a group use tiles of the same height, since one reads what another stored.
int tile_rows(const Pass& pass, const Group& group) {
  int rows = std::min(up_of(pass, group).gemm.max_rows, down_of(pass, group).gemm.max_rows);
  if (group.gate != nullptr) rows = std::min(rows, gate_of(pass, group).gemm.max_rows);
  if (group.multiplier != nullptr) rows = std::min(rows, multiplier_of(pass, group).gemm.max_rows);
  return rows;
}

float* line_of(const Pass& pass, const Worker& worker) {
  return pass.scratch.input_line + worker.index * pass.scratch.line_floats;
}

// Packs rows for a product: pack(tile, r, line, target, scales) each of them.
template <class Pack>
void pack_tiles(Pass& pass, const Operand& operand, const std::vector<RowTile>& tiles, char* target, float* scales,
                int64_t row_bytes, Pack&& pack) {
  const int64_t row_scales = operand.weights.inputs().scales_per_row();
  const Work work{.bytes = 8.0 * static_cast<double>(pass.most_rows() * operand.weights.weights().columns)};
  pass.for_items(std::ssize(tiles), work, [&](const Worker& worker, int64_t i) {
    const RowTile& tile = tiles[i];
    for (int32_t r = 0; r < tile.rows; ++r) {
      pack(tile, r, line_of(pass, worker), target + tile.first_row * row_bytes,
           row_scales == 0 ? nullptr : scales + (tile.first_row + r) * row_scales);
    }
  });
}

void round_tokens(Pass& pass, const Operand& operand, const RowPacker& packer) {
  const PackedRows& packed = pass.scratch.rows;
  const int64_t hidden = pass.layer.hidden, scales = operand.weights.inputs().scales_per_row();
  const Work work{.bytes = 8.0 * static_cast<double>(pass.tokens.count * hidden)};
  pass.for_items(pass.tokens.count, work, [&](const Worker& worker, int64_t token) {
    packer.round(pass.token(token), packed.token_codes + token * hidden, line_of(pass, worker),
                 packed.token_scales + token * scales);
  });
}

TiledRows pack_rows(Pass& pass, const Operand& operand, const std::vector<RowTile>& tiles) {
  PackedRows& packed = pass.scratch.rows;
  const ExpertInputs& inputs = operand.weights.inputs();
  const TiledRows rows{packed.data, operand.row_bytes(), tiles, packed.scales};
  if (inputs.absent() && packed.suit(operand.gemm, operand.weights)) return rows;
  packed.gemm = inputs.absent() ? &operand.gemm : nullptr;
  packed.padded_k = operand.weights.layout().padded_k;
  packed.tokens = inputs.tokens();
  const RowPacker packer(pass.kernels, operand.gemm, operand.weights, pass.tokens.dtype);
  const bool rounds = inputs.rounds_alike();
  if (rounds) round_tokens(pass, operand, packer);
  pack_tiles(pass, operand, tiles, packed.data, packed.scales, rows.row_bytes,
             [&](const RowTile& tile, int32_t r, float* line, char* target, float* scales) {
               const int64_t row = tile.first_row + r, token = pass.state.token_of_row[row];
               const float* weight = pass.state.weight_of_row == nullptr ? nullptr : pass.state.weight_of_row + row;
               if (!rounds) return packer.pack(tile, r, pass.token(token), weight, target, line, scales);
               packer.pack_rounded(tile, r, packed.token_codes + token * pass.layer.hidden,
                                   packed.token_scales + token * inputs.scales_per_row(), weight, target, scales);
             });
  return rows;
}

Status multiply(Pass& pass, const Operand& operand, const std::vector<RowTile>& tiles, const TensorView& kept,
                float* results) {
  return pass.multiply(operand, pack_rows(pass, operand, tiles), {kept}, results);
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
  pass.scratch.rows.gemm = nullptr;
  const bool has_gate = group.gate != nullptr, has_multiplier = group.multiplier != nullptr;
  const TensorView &pre = pass.tokens.pre, &multiplied = pass.tokens.multiplied;
  if (has_multiplier) MOE_TRY(multiply(pass, multiplier_of(pass, group), tiles, multiplied, pass.scratch.multiplier));
  if (has_gate) MOE_TRY(multiply(pass, gate_of(pass, group), tiles, pre, pass.scratch.gate));
  const float* gate = has_gate ? pass.scratch.gate : nullptr;
  const float* multiplier = has_multiplier ? pass.scratch.multiplier : nullptr;
  const Operand up = up_of(pass, group), down = down_of(pass, group);
  const PanelLayout& layout = up.weights.layout();
  const int64_t inner_k = packed_row_k(down.gemm, down.weights.layout());
  const int64_t intermediate = pass.layer.intermediate;
  const bool changes_inner = needs_whole_rows(down);
  const bool streams = are_streamed(pass.most_rows() * intermediate * int64_t{sizeof(float)});
  float* rows = pass.scratch.inner;
  const RowsBefore before{pre, has_gate ? intermediate : 0, intermediate};
  DirectResults direct;
  if (!has_gate && !has_multiplier) {
    if (changes_inner) {
      direct = direct_matrix(rows, intermediate, streams);
    } else if (down.gemm.arithmetic == Arithmetic::bf16_tiles) {
      direct = {pass.state.inner_tiles, pass.state.inner_row_bytes, ResultStorage::bf16};
    }
  }
  MOE_TRY(pass.multiply(up, pack_rows(pass, up, tiles), before, direct, [&](const TileResults& tile) {
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
  }));
  if (changes_inner) {
    const RowPacker packer(pass.kernels, down.gemm, down.weights, DType::f32);
    pack_tiles(pass, down, tiles, pass.state.inner_tiles, pass.state.inner_scales, pass.state.inner_row_bytes,
               [&](const RowTile& tile, int32_t r, float* line, char* target, float* scales) {
                 const float* row = rows + (tile.first_row + r) * intermediate;
                 packer.pack(tile, r, reinterpret_cast<const char*>(row), nullptr, target, line, scales);
               });
  }
  return {};
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
