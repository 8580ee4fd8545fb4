#include <ptx/launch.cuh>

#include <map>
#include <mutex>
#include <utility>

#include "gpu/runtime/device_traits.h"
#include "gpu/target/cuda/on_gpu.h"
#include "gpu/target/cuda/pools.h"

namespace moe::cuda {
namespace {

// cudaErrorContained, a failure of hardware that earlier toolkits have no name for.
constexpr auto kContained = static_cast<cudaError_t>(226);

// A kernel that is ready to launch.
struct Prepared {
  size_t static_shared_bytes;
  size_t dynamic_shared_bytes;  // the largest size it was prepared for
};

Status grant(const char* name, const void* kernel, size_t static_bytes, size_t dynamic_bytes) {
  if (static_bytes + dynamic_bytes > gpu::kUnaskedShared) {
    MOE_TRY(cuda_status(
        cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(dynamic_bytes)),
        name));
  }
  // Shared memory limits the blocks on a multiprocessor, and these kernels stream past L1.
  return cuda_status(
      cudaFuncSetAttribute(kernel, cudaFuncAttributePreferredSharedMemoryCarveout, cudaSharedmemCarveoutMaxShared),
      name);
}

}  // namespace

const char* words_of_fault(cudaError_t error) {
  if (error == kContained) error = cudaErrorECCUncorrectable;
  switch (error) {
    case cudaErrorAssert:
    case cudaErrorHardwareStackError:
    case cudaErrorIllegalAddress:
    case cudaErrorIllegalInstruction:
    case cudaErrorInvalidAddressSpace:
    case cudaErrorInvalidPc:
    case cudaErrorLaunchFailure:
    case cudaErrorLaunchTimeout:
    case cudaErrorMisalignedAddress:
      return "this or an earlier kernel failed, and this process cannot use the GPU any more: run it with "
             "CUDA_LAUNCH_BLOCKING=1, and the first error names the kernel";
    case cudaErrorMpsClientTerminated:
      return "MPS has ended this process's use of the GPU, perhaps for a failure of another process that shares it; "
             "start this process again";
    case cudaErrorECCUncorrectable:
    case cudaErrorNvlinkUncorrectable:
      return "the GPU's memory or NVLink failed, and this process cannot use the GPU any more: start it again, and see "
             "nvidia-smi -q for the GPU's errors";
    default: return nullptr;
  }
}

Status prepare(const char* name, const void* kernel, size_t dynamic_shared_bytes) {
  // Never destroyed: a stream may launch while the process exits.
  static std::mutex& mutex = *new std::mutex;
  static auto& prepared = *new std::map<std::pair<int, const void*>, Prepared>;
  int device = 0;
  MOE_TRY(cuda_status(cudaGetDevice(&device), name));
  const std::lock_guard lock(mutex);
  auto found = prepared.find({device, kernel});
  if (found != prepared.end() && dynamic_shared_bytes <= found->second.dynamic_shared_bytes) return {};
  const OnGpu here(device);
  if (found == prepared.end()) {
    // Loads the kernel if CUDA has put that off.
    cudaFuncAttributes attributes{};
    const auto loaded = with_memory(device, [&] { return cudaFuncGetAttributes(&attributes, kernel); });
    MOE_TRY(cuda_status(loaded, name));
    found = prepared.emplace(std::pair{device, kernel}, Prepared{attributes.sharedSizeBytes, 0}).first;
  }
  Prepared& ready = found->second;
  if (dynamic_shared_bytes <= ready.dynamic_shared_bytes) return {};
  MOE_TRY(grant(name, kernel, ready.static_shared_bytes, dynamic_shared_bytes));
  ready.dynamic_shared_bytes = dynamic_shared_bytes;
  return {};
}

}  // namespace moe::cuda
