// Vector loads and stores. Addresses must be aligned to the size of the access.
#pragma once

#include <cstdint>

#include <ptx/device.cuh>

namespace moe::MOE_GPU_NAMESPACE::ptx {

__device__ __forceinline__ uint4 ld_global_128(const void* address) { return *static_cast<const uint4*>(address); }
__device__ __forceinline__ uint2 ld_global_64(const void* address) { return *static_cast<const uint2*>(address); }
__device__ __forceinline__ uint32_t ld_global_32(const void* address) { return *static_cast<const uint32_t*>(address); }

__device__ __forceinline__ void st_global_128(void* address, uint4 value) { *static_cast<uint4*>(address) = value; }
__device__ __forceinline__ void st_global_64(void* address, uint2 value) { *static_cast<uint2*>(address) = value; }
__device__ __forceinline__ void st_global_32(void* address, uint32_t value) {
  *static_cast<uint32_t*>(address) = value;
}

__device__ __forceinline__ uint4 ld_shared_128(const void* address) { return *static_cast<const uint4*>(address); }
__device__ __forceinline__ uint2 ld_shared_64(const void* address) { return *static_cast<const uint2*>(address); }
__device__ __forceinline__ uint32_t ld_shared_32(const void* address) { return *static_cast<const uint32_t*>(address); }

// The compiler would split these where it does not see their alignment, and threads' words would share banks.
__device__ __forceinline__ void st_shared_128(void* address, uint4 value) {
  asm volatile("st.shared.v4.u32 [%0], {%1, %2, %3, %4};" ::"r"(shared_address(address)), "r"(value.x), "r"(value.y),
               "r"(value.z), "r"(value.w)
               : "memory");
}
__device__ __forceinline__ void st_shared_64(void* address, uint2 value) {
  asm volatile("st.shared.v2.u32 [%0], {%1, %2};" ::"r"(shared_address(address)), "r"(value.x), "r"(value.y)
               : "memory");
}
__device__ __forceinline__ void st_shared_32(void* address, uint32_t value) {
  *static_cast<uint32_t*>(address) = value;
}

}  // namespace moe::MOE_GPU_NAMESPACE::ptx
