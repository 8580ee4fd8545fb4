// The experts of every token, and their weights.
#include <algorithm>

#include "cpu/layer/stage.h"
#include "cpu/routing/gating.h"

namespace moe::cpu {

namespace {

void take(Pass& pass, StageMemory& memory) {
  const int64_t choices = pass.tokens.count * pass.tokens.choices;
  pass.scratch.gating = memory.scratch.take<int32_t>(pass.threads() * gating_scratch(pass.layer.experts));
  if (pass.tokens.ids == nullptr) pass.state.ids = memory.state.take<int32_t>(choices);
  if (pass.tokens.weights == nullptr) pass.state.weights = memory.state.take<float>(choices);
}

Status run(Pass& pass) {
  constexpr int64_t kTokensAtOnce = 32;
  const int64_t count = pass.tokens.count;
  const int64_t experts = pass.layer.experts;
  const TensorView logits{pass.state.logits, DType::f32, 2, {count, experts}};
  // About 30 operations per logit: an exponential, comparisons, its share of the choice.
  const Work work{.operations = 30.0 * static_cast<double>(count * experts)};
  pass.for_items(ceil_divide(count, kTokensAtOnce), work, [&](const Worker& worker, int64_t i) {
    const int64_t first = i * kTokensAtOnce;
    pass.non_finite_rows += gate_rows(pass.kernels, logits, pass.layer.gating, floats(pass.weights.selection_bias),
                                      pass.state.ids, pass.state.weights, first, std::min(count, first + kTokensAtOnce),
                                      pass.scratch.gating + worker.index * gating_scratch(experts));
  });
  return {};
}

}  // namespace

const CpuStage gating_stage{.take = take, .run = run};

}  // namespace moe::cpu
