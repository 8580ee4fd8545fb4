#include "gpu/target/cuda/devices.h"
#include "check.h"

MOE_TEST(every_gpu_opens_or_says_why_it_does_not) {
  const std::vector<moe::DeviceSummary> devices = moe::cuda::list_devices({});
  MOE_CHECK(!devices.empty());
  for (size_t i = 0; i < devices.size(); ++i) {
    MOE_CHECK(!devices[i].detail.empty());
    std::unique_ptr<moe::Backend> backend;
    const moe::Status status = moe::cuda::open(static_cast<int>(i), {}, &backend);
    MOE_CHECK_EQUAL(status.ok(), devices[i].available);
    MOE_CHECK_EQUAL(backend != nullptr, devices[i].available);
    if (!devices[i].available) MOE_CHECK(status.code == moe::Code::device_unavailable);
  }
}

MOE_TEST(kernels_are_chosen_if_the_first_gpu_is_available) {
  bool chosen = false;
  for (const moe::KernelDescription& kernel : moe::cuda::list_kernels({})) chosen = chosen || !kernel.chosen.empty();
  MOE_CHECK_EQUAL(chosen, moe::cuda::list_devices({}).front().available);
}
