// Launches of PTX.
#include <algorithm>
#include <cstring>

#include "modules.h"

namespace ptx_machine {
namespace {

// What kernels on a GPU may use now, by address.
std::vector<Range> memory_of(int device) {
  const fake::State& state = fake::state();
  std::vector<Range> memory;
  for (const auto& [data, block] : state.blocks) {
    if (block.usable && block.device == device) memory.push_back({data, block.bytes});
  }
  for (const auto& [data, bytes] : state.pinned) memory.push_back({data, bytes});
  std::sort(memory.begin(), memory.end(), [](const Range& a, const Range& b) { return a.data < b.data; });
  return memory;
}

// A fault ends all use of the GPU.
void run_here(const Kernel& kernel, const Launch& launch, int device) {
  fake::State& state = fake::state();
  if (state.fault != cudaSuccess) return;
  try {
    note_launch(kernel.name);
    run(kernel, launch, memory_of(device));
  } catch (const std::exception& error) {
    say(error.what());
    state.fault = cudaErrorLaunchFailure;
  }
}

std::vector<std::byte> joined(const Kernel& kernel, void** arguments) {
  std::vector<std::byte> parameters(kernel.parameter_bytes);
  for (size_t i = 0; i < kernel.parameters.size(); ++i) {
    const auto [offset, bytes] = kernel.parameters[i];
    std::memcpy(parameters.data() + offset, arguments[i], bytes);
  }
  return parameters;
}

}  // namespace
}  // namespace ptx_machine

using namespace ptx_machine;

extern "C" {

cudaError_t cudaLaunchKernelExC(const cudaLaunchConfig_t* config, const void* function, void** arguments) {
  const fake::State& state = fake::state();
  const std::lock_guard lock(fake::state().mutex);
  // Clusters and the like.
  if (config->numAttrs != 0) return cudaErrorNotSupported;
  const int device = fake::current_device;
  if (static_cast<size_t>(device) >= state.gpus.size()) return cudaErrorNoDevice;
  std::shared_ptr<const Kernel> kernel;
  const cudaError_t failure = find_kernel(state.gpus[static_cast<size_t>(device)], function, &kernel);
  if (failure != cudaSuccess) return failure;
  const dim3 grid = config->gridDim, block = config->blockDim;
  Launch launch{.grid = {grid.x, grid.y, grid.z},
                .block = {block.x, block.y, block.z},
                .dynamic_shared_bytes = config->dynamicSmemBytes,
                .parameters = joined(*kernel, arguments),
                .background = background,
                .turns = turns};
  return fake_launch(*config, function,
                     [kernel, launch = std::move(launch), device] { run_here(*kernel, launch, device); });
}

cudaError_t cudaLaunchKernel(const void* function, dim3 grid, dim3 block, void** arguments, size_t shared_bytes,
                             cudaStream_t stream) {
  cudaLaunchConfig_t config{};
  config.gridDim = grid;
  config.blockDim = block;
  config.dynamicSmemBytes = shared_bytes;
  config.stream = stream;
  return cudaLaunchKernelExC(&config, function, arguments);
}

// The functions that stand for kernels call these if they are called themselves, for <<<...>>>.
cudaError_t __cudaGetKernel(cudaKernel_t* kernel, const void* function) {
  *kernel = static_cast<cudaKernel_t>(const_cast<void*>(function));
  return cudaSuccess;
}

cudaError_t __cudaLaunchKernel(cudaKernel_t kernel, dim3 grid, dim3 block, void** arguments, size_t shared_bytes,
                               cudaStream_t stream) {
  return cudaLaunchKernel(kernel, grid, block, arguments, shared_bytes, stream);
}

static thread_local cudaLaunchConfig_t pushed;

unsigned __cudaPushCallConfiguration(dim3 grid, dim3 block, size_t shared_bytes, cudaStream_t stream) {
  pushed = {};
  pushed.gridDim = grid;
  pushed.blockDim = block;
  pushed.dynamicSmemBytes = shared_bytes;
  pushed.stream = stream;
  return 0;
}

cudaError_t __cudaPopCallConfiguration(dim3* grid, dim3* block, size_t* shared_bytes, void* stream) {
  *grid = pushed.gridDim;
  *block = pushed.blockDim;
  *shared_bytes = pushed.dynamicSmemBytes;
  *static_cast<cudaStream_t*>(stream) = pushed.stream;
  return cudaSuccess;
}

}  // extern "C"
