// What device code builds on: here, the CUDA language itself. native/gpu/target/simt/ptx/ has the same headers and
// functions for the host compiler. Kernels include them as <ptx/...>, so the include path picks one of the two.
#pragma once

#include <cuda_runtime.h>

#include <type_traits>

#include "core/status.h"

#define MOE_GPU_NAMESPACE cuda

namespace moe::MOE_GPU_NAMESPACE {

// Where launches go.
struct Stream {
  Stream(cudaStream_t stream, bool prepares = false) : handle(stream), only_prepares(prepares) {}

  cudaStream_t handle;
  // Launches prepare their kernels, which may load them and wait, but are not enqueued. See Runtime::record.
  bool only_prepares;
};

// Defines a kernel. `bounds`, in parentheses: the most threads per block and, optionally, the blocks that must fit into
// a multiprocessor's registers. The kernel's parameters follow.
#define MOE_KERNEL(name, bounds, ...) __global__ void __launch_bounds__ bounds name(__VA_ARGS__)

namespace ptx {

// The block's dynamic shared memory, aligned for every swizzle.
template <class T>
__device__ __forceinline__ T* dynamic_shared() {
  extern __shared__ __align__(1024) unsigned char moe_dynamic_shared[];
  return reinterpret_cast<T*>(moe_dynamic_shared);
}

// The block's static shared memory of type Storage. Every call with the same type returns the same memory, so each
// function needs a struct of its own.
template <class Storage>
__device__ __forceinline__ Storage& shared() {
  static_assert(std::is_class_v<Storage>,
                "use a struct of the calling function, so that no other function has the same storage");
  __shared__ Storage storage;
  return storage;
}

// A pointer as the 32-bit shared-memory address that instructions take.
__device__ __forceinline__ unsigned shared_address(const void* shared) {
  return static_cast<unsigned>(__cvta_generic_to_shared(shared));
}

}  // namespace ptx
}  // namespace moe::MOE_GPU_NAMESPACE
