#include "gpu/target/cuda/discovery.h"

#include <ptx/launch.cuh>

#include "gpu/gemm/kernels.h"
#include "gpu/runtime/capability.h"
#include "gpu/target/cuda/devices.h"
#include "gpu/target/cuda/messages.h"

namespace moe::cuda {
namespace {

// The kernels are built for compute capability 8.0 and later.
constexpr int kLeastMajor = 8;

Status count_gpus(const Variables& variables, int* count) {
  const cudaError_t error = cudaGetDeviceCount(count);
  if (error == cudaSuccess && *count > 0) return {};
  if (error == cudaErrorNoDevice || error == cudaSuccess)
    return {Code::device_unavailable, "no NVIDIA GPU is visible" + visibility(variables)};
  if (error == cudaErrorInsufficientDriver) {
    int driver = 0;
    cudaDriverGetVersion(&driver);
    return {Code::device_unavailable, driver_problem(driver, CUDART_VERSION)};
  }
  return {Code::device_unavailable, cuda_status(error, "cudaGetDeviceCount").message + remedy(cudaGetErrorName(error))};
}

}  // namespace

Status find_gpu(int index, const Variables& variables, Gpu* gpu) {
  const std::string name = "cuda:" + std::to_string(index);
  int count = 0;
  if (const Status status = count_gpus(variables, &count); !status.ok()) {
    return {status.code, name + ": " + status.message};
  }
  if (index < 0 || index >= count) {
    return {Code::device_unavailable, name + ": expected an index from 0 to " + std::to_string(count - 1) +
                                          ", because " + std::to_string(count) +
                                          (count == 1 ? " GPU is" : " GPUs are") + " visible" + visibility(variables)};
  }
  cudaDeviceProp properties{};
  MOE_TRY(cuda_status(cudaGetDeviceProperties(&properties, index), "cudaGetDeviceProperties"));
  const std::string capability = std::to_string(properties.major) + "." + std::to_string(properties.minor);
  if (properties.major < kLeastMajor) {
    return {Code::device_unavailable, name + ": " + properties.name + " has compute capability " + capability +
                                          ", the kernels need " + std::to_string(kLeastMajor) + ".0 or later"};
  }
  int pools = 0;
  MOE_TRY(
      cuda_status(cudaDeviceGetAttribute(&pools, cudaDevAttrMemoryPoolsSupported, index), "cudaDeviceGetAttribute"));
  if (pools == 0)
    return {Code::device_unavailable, name + ": " + properties.name + " does not support memory pools on this system"};
  int driver = 0;
  MOE_TRY(cuda_status(cudaDriverGetVersion(&driver), "cudaDriverGetVersion"));
  gpu->traits.multiprocessors = properties.multiProcessorCount;
  gpu->traits.shared_per_block = properties.sharedMemPerBlockOptin;
  gpu->traits.shared_per_multiprocessor = properties.sharedMemPerMultiprocessor;
  gpu->traits.compute_capability = 10 * properties.major + properties.minor;
  std::string missing;
#if !defined(MOE_SM_90A)
  // This build has none of the code that Hopper alone runs.
  if (gpu->traits.compute_capability == 90) {
    gpu->traits.compute_capability = 80;
    missing =
        ", with the kernels for 8.0, since this build has none for 9.0 (no 90a in CMake's MOE_CUDA_ARCHITECTURES)";
  }
#endif
  gpu->traits.own_capability = gpu->traits.compute_capability;
  MOE_TRY(gpu::read_capability(variables, gpu->traits.compute_capability, &gpu->traits.compute_capability));
  gpu->description = std::string(properties.name) + ", compute capability " + capability + ", " +
                     std::to_string(properties.totalGlobalMem >> 30) + " GiB, " +
                     std::to_string(properties.multiProcessorCount) + " multiprocessors, driver for CUDA " +
                     version_text(driver) + missing;
  return {};
}

std::vector<DeviceSummary> list_devices(const Variables& variables) {
  int count = 0;
  if (const Status status = count_gpus(variables, &count); !status.ok()) return {{"cuda", false, status.message}};
  std::vector<DeviceSummary> devices;
  for (int index = 0; index < count; ++index) {
    Gpu gpu;
    const Status status = find_gpu(index, variables, &gpu);
    devices.push_back({"cuda:" + std::to_string(index), status.ok(), status.ok() ? gpu.description : status.message});
  }
  return devices;
}

std::vector<KernelDescription> list_kernels(const Variables& variables) {
  Gpu first;
  const bool found = find_gpu(0, variables, &first).ok();
  return gpu::describe_kernels("cuda", found ? &first.traits : nullptr);
}

}  // namespace moe::cuda
