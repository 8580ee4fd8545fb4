#include "gpu/plan/weight_gradient_plan.h"

#include "check.h"
#include "devices.h"

namespace moe::gpu::test {
namespace {

WeightGradientPlan planned(const WeightGradientSizes& sizes, const DeviceTraits& traits = kH100) {
  return plan_weight_gradient(sizes, traits);
}

MOE_TEST(gradients_of_one_16_bit_type_are_for_tensor_cores) {
  for (const DType x : {DType::f32, DType::f16, DType::bf16}) {
    for (const DType dy : {DType::f32, DType::f16, DType::bf16}) {
      const WeightGradientSizes sizes{8, 1024, 1024, x, dy};
      const bool tensor_cores = x == dy && x != DType::f32;
      const auto kernel_on = [&](const DeviceTraits& traits) { return planned(sizes, traits).kernel; };
      MOE_CHECK(kernel_on(kA100) == (tensor_cores ? WeightGradientKernel::mma : WeightGradientKernel::fma));
      MOE_CHECK(kernel_on(kH100) == (tensor_cores ? WeightGradientKernel::wgmma : WeightGradientKernel::fma));
    }
  }
}

MOE_TEST(small_gradients_are_divided_among_more_blocks) {
  const WeightGradientPlan large = planned({6, 4096, 1024, DType::bf16, DType::bf16}, kA100);
  MOE_CHECK_EQUAL(large.tile.rows, 128);
  MOE_CHECK_EQUAL(large.grid, 6u * 32 * 8);
  MOE_CHECK_EQUAL(planned({8, 4096, 1024, DType::bf16, DType::bf16}).tile.rows, 192);
  const WeightGradientPlan small = planned({1, 1024, 512, DType::bf16, DType::bf16});
  MOE_CHECK_EQUAL(small.tile.rows, 64);
  MOE_CHECK_EQUAL(small.grid, 16u * 8);
  MOE_CHECK_EQUAL(planned({0, 1024, 512, DType::bf16, DType::bf16}).grid, 0u);
  MOE_CHECK_EQUAL(planned({3, 0, 512, DType::f32, DType::f32}).grid, 0u);
}

MOE_TEST(every_device_runs_a_gradient_on_its_tensor_cores) {
  for (const DeviceTraits& traits : {kA100, kH100, DeviceTraits{.multiprocessors = 1, .max_threads = 128}}) {
    for (const DType dtype : {DType::f32, DType::bf16}) {
      const WeightGradientPlan plan = planned({8, 4096, 4096, dtype, dtype}, traits);
      MOE_CHECK_EQUAL(plan.tensor_cores(), dtype == DType::bf16);
      MOE_CHECK(plan.shared_bytes <= traits.shared_per_block);
      MOE_CHECK(plan.tile.threads() <= traits.max_threads);
    }
  }
}

}  // namespace
}  // namespace moe::gpu::test
