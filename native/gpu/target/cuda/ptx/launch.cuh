// Launches a kernel and reports what went wrong with it.
#pragma once

#include <cstddef>
#include <string>
#include <utility>

#include <ptx/device.cuh>

namespace moe::MOE_GPU_NAMESPACE {

// The Status of a CUDA call; `what` says which.
inline Status cuda_status(cudaError_t error, const char* what) {
  if (error == cudaSuccess) return {};
  const Code code = error == cudaErrorMemoryAllocation ? Code::out_of_memory : Code::cuda_error;
  return {code, std::string(what) + ": " + cudaGetErrorName(error) + ": " + cudaGetErrorString(error)};
}

// Enqueues `kernel`. An empty grid is no launch: CUDA would refuse it and keep the error for a later call.
template <class... Parameters, class... Arguments>
Status launch(const char* name, void (*kernel)(Parameters...), dim3 grid, dim3 block, size_t dynamic_shared_bytes,
              Stream stream, Arguments&&... arguments) {
  if (grid.x == 0 || grid.y == 0 || grid.z == 0) return {};
  // More than this must be asked for.
  constexpr size_t kDefaultLimit = 48 * 1024;
  if (dynamic_shared_bytes > kDefaultLimit) {
    MOE_TRY(cuda_status(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                             static_cast<int>(dynamic_shared_bytes)),
                        name));
  }
  kernel<<<grid, block, dynamic_shared_bytes, stream>>>(std::forward<Arguments>(arguments)...);
  return cuda_status(cudaGetLastError(), name);
}

}  // namespace moe::MOE_GPU_NAMESPACE
