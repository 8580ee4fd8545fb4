#include "gpu/target/cuda/messages.h"
#include "check.h"

using namespace moe::cuda;

MOE_TEST(a_driver_that_is_too_old_is_told_the_major_version_and_its_number) {
  MOE_CHECK_EQUAL(driver_problem(0, 12090), "no NVIDIA driver is installed");
  MOE_CHECK_EQUAL(
      driver_problem(11040, 12090),
      "the NVIDIA driver is too old: it knows CUDA 11.4, and this build needs a driver for CUDA 12.0 or later, "
      "which is 525 or later; update the driver");
  MOE_CHECK(driver_problem(12080, 13010).find("for CUDA 13.0 or later, which is 580 or later") != std::string::npos);
  MOE_CHECK(driver_problem(13000, 14000).find("for CUDA 14.0 or later; update") != std::string::npos);
}

MOE_TEST(a_variable_that_hides_gpus_is_named) {
  MOE_CHECK_EQUAL(visibility({}), "");
  MOE_CHECK_EQUAL(visibility({{{"CUDA_VISIBLE_DEVICES", ""}}}), " with CUDA_VISIBLE_DEVICES=\"\"");
  MOE_CHECK_EQUAL(visibility({{{"CUDA_VISIBLE_DEVICES", "3,1"}}}), " with CUDA_VISIBLE_DEVICES=\"3,1\"");
}

MOE_TEST(memory_that_cannot_be_pinned_is_the_hosts) {
  const std::string limited = pin_problem(4096, 65536, "cudaHostRegister: out of memory");
  MOE_CHECK(limited.find("cannot pin 4096 bytes of the host's memory") == 0);
  MOE_CHECK(
      limited.find("cudaHostRegister: out of memory; this process may lock memory up to 65536 bytes (ulimit -l)") !=
      std::string::npos);
  MOE_CHECK(pin_problem(1, UINT64_MAX, "").find("may lock memory without a limit") != std::string::npos);
}
