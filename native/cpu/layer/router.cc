// The tokens' logits.
#include "cpu/layer/stage.h"

namespace moe::cpu {

namespace {

Operand router_of(const Pass& pass) { return pass.projection(*pass.weights.router, floats(pass.weights.router_bias)); }

void take(Pass& pass, StageMemory& memory) {
  if (pass.tokens.logits != nullptr) return;
  pass.state.logits = memory.state.take<float>(pass.tokens.count * pass.layer.experts);
}

Status run(Pass& pass) { return pass.project(router_of(pass), pass.state.logits); }

}  // namespace

const CpuStage router_stage{.take = take, .run = run};

}  // namespace moe::cpu
