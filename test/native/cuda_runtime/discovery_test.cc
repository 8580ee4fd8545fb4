// Which GPUs the cuda device finds, over CUDA's runtime without a GPU, and what it says of those that it cannot use.
#include "gpu/target/cuda/discovery.h"

#include "check.h"
#include "fake_gpu.h"
#include "gpu/runtime/runtime.h"
#include "gpu/target/cuda/devices.h"

namespace moe::cuda {
namespace {

std::string found(int index, const Variables& variables = {}) {
  Gpu gpu;
  const Status status = find_gpu(index, variables, &gpu);
  MOE_CHECK(status.ok() || status.code == Code::device_unavailable);
  return status.ok() ? gpu.description : status.message;
}

Status open_status(int index) {
  std::unique_ptr<Runtime> runtime;
  return Runtime::open(index, {}, &runtime);
}

bool contains(const std::string& text, const std::string& part) {
  const bool there = text.find(part) != std::string::npos;
  if (!there) MOE_CHECK_EQUAL(text, part);
  return there;
}

}  // namespace

MOE_TEST(gpus_are_described_by_index) {
  fake::start({{.name = "A", .major = 8}, {.name = "B", .major = 7, .minor = 5}, {.name = "C", .has_pools = false}});
  MOE_CHECK_EQUAL(found(0), "A, compute capability 8.0, 1 GiB, 132 multiprocessors, driver for CUDA 13.0");
  MOE_CHECK_EQUAL(found(1), "cuda:1: B has compute capability 7.5, the kernels need 8.0 or later");
  MOE_CHECK_EQUAL(found(2), "cuda:2: C does not support memory pools on this system");
  MOE_CHECK_EQUAL(found(3), "cuda:3: expected an index from 0 to 2, because 3 GPUs are visible");
  const std::vector<DeviceSummary> devices = list_devices({});
  MOE_CHECK_EQUAL(devices.size(), size_t{3});
  MOE_CHECK(devices[0].available && !devices[1].available && !devices[2].available);
}

MOE_TEST(without_a_gpu_the_reason_is_told) {
  fake::start({});
  MOE_CHECK_EQUAL(found(0), "cuda:0: no NVIDIA GPU is visible");
  const Variables none_visible{{{"CUDA_VISIBLE_DEVICES", ""}}};
  MOE_CHECK_EQUAL(found(0, none_visible), "cuda:0: no NVIDIA GPU is visible with CUDA_VISIBLE_DEVICES=\"\"");
  fake::start({{}}, 12020);
  contains(found(0), "cuda:0: the NVIDIA driver is too old: it knows CUDA 12.2");
  const struct {
    cudaError_t error;
    const char* words;
  } reasons[] = {{cudaErrorSystemNotReady, "cudaErrorSystemNotReady: what it means: start NVIDIA's fabric manager"},
                 {cudaErrorStubLibrary, "folder of stubs out of LD_LIBRARY_PATH"},
                 {cudaErrorUnknown, "see whether nvidia-smi works"},
                 {cudaErrorInvalidValue, "cudaErrorInvalidValue: what it means"}};
  for (const auto& [error, words] : reasons) {
    fake::start({{}});
    fake::fail("cudaGetDeviceCount", error);
    contains(found(0), words);
    MOE_CHECK(!list_devices({}).front().available);
  }
}

MOE_TEST(a_gpu_without_room_for_a_process_or_code_for_it_is_unavailable) {
  fake::start({{}});
  fake::fail("cudaSetDevice", cudaErrorMemoryAllocation);
  Status status = open_status(0);
  MOE_CHECK(status.code == Code::device_unavailable);
  contains(status.message,
           "cannot be used: cudaSetDevice: cudaErrorMemoryAllocation: what it means: free memory of this");
  fake::succeed();
  fake::fail("cudaFuncGetAttributes", cudaErrorNoKernelImageForDevice);
  status = open_status(0);
  MOE_CHECK(status.code == Code::device_unavailable);
  contains(status.message, "update the driver, or build for this GPU");
}

MOE_TEST(a_build_without_hoppers_kernels_uses_those_of_ampere) {
  fake::start({{.major = 9}, {.major = 10}});
  Gpu hopper, blackwell;
  MOE_CHECK(find_gpu(0, {}, &hopper).ok() && find_gpu(1, {}, &blackwell).ok());
  MOE_CHECK_EQUAL(hopper.traits.compute_capability, 80);
  contains(hopper.description, "with the kernels for 8.0, since this build has none for 9.0");
  MOE_CHECK_EQUAL(blackwell.traits.compute_capability, 100);
}

}  // namespace moe::cuda
