#include "kept_states.h"

#include "gpu/target/simt/devices.h"

MOE_TEST(stages_run_in_several_calls_over_a_kept_state) {
  std::unique_ptr<moe::Backend> backend;
  MOE_CHECK(moe::simt::open(0, {.poison = true}, &backend).ok());
  for (const moe::LayerDescription& layer : moe::test::kept_layers()) {
    for (const moe::DType x : {moe::DType::f32, moe::DType::bf16})
      moe::test::KeptStates(*backend, layer, x, 19).check();
  }
}
