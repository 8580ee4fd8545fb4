// What is left, and said, when calls of CUDA's runtime fail.
#include "support.h"

namespace moe::cuda {

using namespace test;

MOE_TEST(whatever_call_fails_nothing_is_left_and_the_next_use_works) {
  fake::start({{}});
  MOE_CHECK_EQUAL(use_all(0).message, "");
  check_clean();
  for (const cudaError_t error : {cudaErrorMemoryAllocation, cudaErrorUnknown}) {
    for (int index = 0;; ++index) {
      fake::start({{}});
      fake::fail_once(index, error);
      const Status status = use_all(0);
      if (!fake::failed_once()) break;
      check_clean();
      fake::succeed();
      MOE_CHECK_EQUAL(use_all(0).message, "");
    }
  }
}

MOE_TEST(memory_that_cannot_be_poisoned_is_given_back) {
  fake::start({{}});
  {
    const auto runtime = opened(0, {.poison = true});
    fake::fail("cudaMemsetAsync", cudaErrorUnknown);
    void* data = nullptr;
    MOE_CHECK(runtime->allocate(400, &data).code == Code::cuda_error);
    MOE_CHECK(data == nullptr);
    fake::succeed();
  }
  check_clean();
}

MOE_TEST(a_fault_ends_all_calls_and_says_so) {
  fake::start({{}});
  auto runtime = opened();
  void* data = nullptr;
  MOE_CHECK(write_numbers(*runtime, {1, 2, 3}, &data).ok());
  for (const auto& [error, words] : {std::pair{cudaErrorMpsClientTerminated, "MPS has ended"},
                                     std::pair{static_cast<cudaError_t>(226), "memory or NVLink failed"}}) {
    fake::fail("cudaMemsetAsync", error);
    MOE_CHECK(runtime->fill(data, 0, 4).message.find(words) != std::string::npos);
  }
  fake::fail("", cudaErrorIllegalAddress);
  int value = 0;
  for (const Status& status : {runtime->read(&value, data, 4), runtime->write(data, &value, 4),
                               launch_add(data, 1, 1, runtime->stream()), runtime->allocate(8, &data)}) {
    MOE_CHECK(status.code == Code::cuda_error);
    MOE_CHECK(status.message.find("this process cannot use the GPU any more") != std::string::npos);
  }
  std::unique_ptr<Runtime> again;
  MOE_CHECK(Runtime::open(0, {}, &again).code == Code::device_unavailable);
  MOE_CHECK(runtime->settle().ok());
  runtime->release_stream();
  // What CUDA does not take back any more is of no use to anybody.
  fake::succeed();
  runtime->release(data);
  runtime.reset();
  check_clean();
}

}  // namespace moe::cuda
