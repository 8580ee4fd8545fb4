// The experts' output for every row.
#include "cpu/layer/stage.h"

namespace moe::cpu {

namespace {

void take(Pass& pass, Arena& arena) { pass.state.outputs = arena.take<float>(pass.most_rows() * pass.layer.hidden); }

Status run(Pass& pass) {
  const Operand down =
      pass.operand(*pass.weights.down, pass.tokens.dtype, floats(pass.weights.down_bias), pass.layer.hidden);
  return pass.multiply(down, pass.state.inner_tiles, pass.state.row_tiles, pass.state.outputs);
}

}  // namespace

const CpuStage down_stage{.take = take, .run = run};

}  // namespace moe::cpu
