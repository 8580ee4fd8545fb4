// The experts' output for every row, with its softmax if the layer has one.
#include "cpu/layer/stage.h"

namespace moe::cpu {

namespace {

void take(Pass& pass, StageMemory& memory) {
  pass.state.outputs = memory.state.take<float>(pass.most_rows() * pass.layer.hidden);
}

Status run(Pass& pass) {
  const float* bias = floats(pass.weights.down_bias);
  for (size_t i = 0; i < pass.weights.groups.size(); ++i) {
    const LayerWeights::Group& group = pass.weights.groups[i];
    const Operand down =
        pass.operand(*group.down, pass.tokens.dtype,
                     bias == nullptr ? nullptr : bias + group.experts.first * pass.layer.hidden, pass.layer.hidden);
    MOE_TRY(pass.multiply(
        down, {pass.state.inner_tiles, pass.state.inner_row_bytes, pass.state.group_tiles[i], pass.state.inner_scales},
        {}, pass.state.outputs));
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
