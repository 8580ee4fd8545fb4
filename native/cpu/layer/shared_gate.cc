// The outputs of the shared experts' gate.
#include "cpu/layer/stage.h"

namespace moe::cpu {

namespace {

Operand gate_of(const Pass& pass) {
  return pass.projection(*pass.weights.shared_gate, floats(pass.weights.shared_gate_bias));
}

void take(Pass& pass, StageMemory& memory) {
  if (pass.weights.shared_gate == nullptr) return;
  pass.state.shared_gate = memory.state.take<float>(pass.tokens.count * pass.layer.shared_gate_rows());
}

Status run(Pass& pass) {
  return pass.weights.shared_gate == nullptr ? Status{} : pass.project(gate_of(pass), pass.state.shared_gate);
}

}  // namespace

const CpuStage shared_gate_stage{.take = take, .run = run};

}  // namespace moe::cpu
