// Kernel launches and their errors.
#pragma once

#include <cstddef>
#include <string>
#include <utility>

#include <ptx/device.cuh>

namespace moe::MOE_GPU_NAMESPACE {

// What to tell of an error that any later call may return too, since the process cannot use the GPU any more. Null: it
// is no such error.
const char* words_of_fault(cudaError_t error);

// The Status of a CUDA call, which `what` names.
inline Status cuda_status(cudaError_t error, const char* what) {
  if (error == cudaSuccess) return {};
  const Code code = error == cudaErrorMemoryAllocation ? Code::out_of_memory : Code::cuda_error;
  std::string message = std::string(what) + ": " + cudaGetErrorName(error) + ": " + cudaGetErrorString(error);
  if (const char* words = words_of_fault(error); words != nullptr) message += std::string("; ") + words;
  return {code, std::move(message)};
}

// Prepares a kernel on the current device, once: loads it, raises its shared memory limit if static and dynamic
// together exceed the default, and, if it has dynamic shared memory, gives it as much of the L1 cache as it can use.
Status prepare(const char* name, const void* kernel, size_t dynamic_shared_bytes);

// Enqueues `kernel`. An empty grid is skipped: CUDA would refuse it and report the error to a later call.
template <class... Parameters, class... Arguments>
Status launch(const char* name, void (*kernel)(Parameters...), dim3 grid, dim3 block, size_t dynamic_shared_bytes,
              Stream stream, Arguments&&... arguments) {
  if (grid.x == 0 || grid.y == 0 || grid.z == 0) return {};
  MOE_TRY(prepare(name, reinterpret_cast<const void*>(kernel), dynamic_shared_bytes));
  if (stream.only_prepares) return {};
  // Not <<<...>>>, which leaves its error beside those of other calls: cudaGetLastError would return any of them.
  cudaLaunchConfig_t config{};
  config.gridDim = grid;
  config.blockDim = block;
  config.dynamicSmemBytes = dynamic_shared_bytes;
  config.stream = stream.handle;
  return cuda_status(cudaLaunchKernelEx(&config, kernel, std::forward<Arguments>(arguments)...), name);
}

}  // namespace moe::MOE_GPU_NAMESPACE
