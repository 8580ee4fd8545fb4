#include "kept_states.h"

#include "cpu/backend.h"

namespace {

std::unique_ptr<moe::Backend> open_cpu() {
  std::unique_ptr<moe::Backend> backend;
  MOE_CHECK(moe::cpu::CpuBackend::open({.threads = 2, .poison = true}, &backend).ok());
  return backend;
}

}  // namespace

MOE_TEST(stages_run_in_several_calls_over_a_kept_state) {
  const std::unique_ptr<moe::Backend> backend = open_cpu();
  for (const moe::LayerDescription& layer : moe::test::kept_layers()) {
    for (const moe::DType x : {moe::DType::f32, moe::DType::bf16})
      moe::test::KeptStates(*backend, layer, x, 19).check();
  }
}

MOE_TEST(a_kept_state_holds_more_tokens_than_one_pass_takes) {
  const std::unique_ptr<moe::Backend> backend = open_cpu();
  moe::LayerDescription layer = moe::test::kept_layers().front();
  layer.hidden = layer.intermediate = 8;
  moe::test::KeptStates(*backend, layer, moe::DType::f32, 20000).check();
}
