// The experts' output for every row, with its softmax if the layer has one.
#include "cpu/layer/stage.h"

namespace moe::cpu {

namespace {

// Packs activations.
class InnerPacker final : public TilePacker {
 public:
  InnerPacker(const Pass& pass, const Operand& down)
      : pass_(pass), packer_(pass.kernels, down.gemm, down.weights, DType::f32) {}

  void pack(int thread, const RowTile& tile, char* x, float* scales) const override {
    for (int32_t r = 0; r < tile.rows; ++r) {
      const float* row = pass_.state.inner + (tile.first_row + r) * pass_.layer.intermediate;
      packer_.pack(tile, r, reinterpret_cast<const char*>(row), nullptr, x, pass_.scratch.inner_lines.of(thread),
                   scales);
    }
  }

 private:
  const Pass& pass_;
  const RowPacker packer_;
};

void take(Pass& pass, StageMemory& memory) {
  pass.state.outputs = memory.state.take<float>(pass.most_rows() * pass.layer.hidden);
  pass.scratch.inner_lines.take(memory.scratch, pass.threads(), RowPacker::line_floats(pass.layer.intermediate));
}

Status run(Pass& pass) {
  for (size_t i = 0; i < pass.weights.groups.size(); ++i) {
    const Operand down = pass.down(pass.weights.groups[i]);
    const InnerPacker packer(pass, down);
    TiledRows rows{pass.state.group_tiles[i]};
    if (down.needs_whole_rows()) {
      rows.packer = &packer;
    } else {
      rows.packed = {.x = pass.state.inner_tiles, .row_bytes = pass.state.inner_row_bytes};
    }
    MOE_TRY(pass.multiply(down, rows, {}, pass.state.outputs));
  }
  if (pass.layer.output_activation == OutputActivation::none) return {};
  const int64_t rows = pass.state.offsets[pass.layer.all_experts()], hidden = pass.layer.hidden;
  // Some 20 operations a value: an exponential, and reads and writes.
  const Work work{.operations = 20.0 * static_cast<double>(rows * hidden)};
  pass.for_items(rows, work, [&](const Worker&, int64_t row) {
    pass.kernels.softmax(pass.state.outputs + row * hidden, static_cast<int32_t>(hidden));
  });
  return {};
}

}  // namespace

const CpuStage down_stage{.take = take, .run = run};

}  // namespace moe::cpu
