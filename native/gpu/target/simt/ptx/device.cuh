// CUDA C++ for the host compiler: what kernels include instead of the toolkit's headers. Kernels live in namespace
// moe::MOE_GPU_NAMESPACE, so that one binary can contain both the build for GPUs and this one.
//
// Shared memory: the dynamic part is ptx::dynamic_shared<T>(). Static storage is a struct of the function that uses it,
// `Storage& shared = ptx::shared<Storage>();`, instead of `__shared__`: the machine must know where it is, to fill it
// with NaN patterns for each block and to check accesses. Kernels with bounds are defined by MOE_KERNEL, so that
// launches know the bounds.
#pragma once

#define MOE_GPU_NAMESPACE simt

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...) static_assert(false, "use MOE_KERNEL for launch bounds; see ptx/device.cuh");
#define __grid_constant__
#define __align__(bytes) __attribute__((aligned(bytes)))
#define __shared__ static_assert(false, "use ptx::shared<Storage>() for static shared memory; see ptx/device.cuh");

#include <source_location>
#include <type_traits>

#include "core/status.h"
#include "simt/gpu.h"
#include "simt/intrinsics/atomic.h"
#include "simt/intrinsics/block.h"
#include "simt/intrinsics/index.h"
#include "simt/intrinsics/math.h"
#include "simt/intrinsics/vector_types.h"
#include "simt/intrinsics/warp.h"
#include "simt/machine.h"

// Defines a kernel. `bounds`, in parentheses: the most threads per block and, optionally, the blocks that must fit into
// a multiprocessor's registers. The kernel's parameters follow.
#define MOE_KERNEL(name, bounds, ...) void name(machine::Bounds<machine::most_threads bounds>, __VA_ARGS__)

namespace moe::simt::machine {

// A kernel's bounds, as the type of a parameter: a launch sees nothing of a kernel but its type.
template <unsigned kThreads>
struct Bounds {};

constexpr unsigned most_threads(int threads, int /*blocks*/ = 0) { return static_cast<unsigned>(threads); }

}  // namespace moe::simt::machine

namespace moe::simt::ptx {

// The launch's dynamic shared memory, aligned to 1024 bytes.
template <class T = unsigned char>
T* dynamic_shared(std::source_location where = std::source_location::current()) {
  return reinterpret_cast<T*>(machine::dynamic_shared({"dynamic_shared", where}, alignof(T)));
}

// The block's static shared memory of type Storage. Every call with the same type returns the same memory, so each
// function needs a struct of its own.
template <class Storage>
Storage& shared(std::source_location where = std::source_location::current()) {
  static_assert(std::is_class_v<Storage>,
                "use a struct of the calling function, so that no other function has the same storage");
  static_assert(std::is_trivially_default_constructible_v<Storage> && std::is_trivially_destructible_v<Storage>,
                "shared memory is never constructed or destroyed");
  static const char tag = 0;
  return *reinterpret_cast<Storage*>(
      machine::static_shared({"shared", where}, &tag, sizeof(Storage), alignof(Storage)));
}

}  // namespace moe::simt::ptx
