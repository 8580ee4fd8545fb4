// wgmma: products of a warpgroup, four consecutive warps, in the background: D[64, columns] += A[64, K] B[columns,
// K]^T, with B in shared memory, and A there or in registers, as mma.cuh has it: warp w of the group has rows 16 w to
// 16 w + 15. PTX ISA, "Asynchronous warpgroup level matrix instructions"; sm_90a. With g = lane / 4 and t = lane % 4,
// warp w has in d[n] rows 16 w + g (d[n][0], d[n][1]) and 16 w + g + 8 of the columns 8 n + 2 t and 8 n + 2 t + 1.
// Where kHasWgmma is false, these functions trap.
#pragma once

#include <cstdint>
#include <type_traits>

#include <ptx/device.cuh>

#include "gpu/tile/matrix_descriptor.h"

namespace moe::MOE_GPU_NAMESPACE {

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
#define MOE_HAS_WGMMA true
#define MOE_WGMMA(...) asm volatile(__VA_ARGS__)
#else
#define MOE_HAS_WGMMA false
#define MOE_WGMMA(...) __trap()
#endif
// The operands of `d`, whose registers a constraint such as "+f" says, by columns.
#define MOE_SUMS_8(REGISTER, n) REGISTER(d[n][0]), REGISTER(d[n][1]), REGISTER(d[n][2]), REGISTER(d[n][3])
#define MOE_SUMS_16(REGISTER, n) MOE_SUMS_8(REGISTER, n), MOE_SUMS_8(REGISTER, (n) + 1)
#define MOE_SUMS_32(REGISTER, n) MOE_SUMS_16(REGISTER, n), MOE_SUMS_16(REGISTER, (n) + 2)
#define MOE_SUMS_64(REGISTER, n) MOE_SUMS_32(REGISTER, n), MOE_SUMS_32(REGISTER, (n) + 4)
#define MOE_SUMS_128(REGISTER, n) MOE_SUMS_64(REGISTER, n), MOE_SUMS_64(REGISTER, (n) + 8)
#define MOE_SUMS_192(REGISTER, n) MOE_SUMS_128(REGISTER, n), MOE_SUMS_64(REGISTER, (n) + 16)
#define MOE_SUMS_256(REGISTER, n) MOE_SUMS_128(REGISTER, n), MOE_SUMS_128(REGISTER, (n) + 16)
// Their places in the instruction.
#define MOE_PLACES_16 "%0, %1, %2, %3, %4, %5, %6, %7"
#define MOE_PLACES_64                                                                                              \
  MOE_PLACES_16                                                                                                    \
  ", %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, " \
  "%30, %31"
#define MOE_PLACES_128                                                                                          \
  MOE_PLACES_64                                                                                                 \
  ", %32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, %48, %49, %50, %51, %52, " \
  "%53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"
#define MOE_PLACES_192                                                                                          \
  MOE_PLACES_128                                                                                                \
  ", %64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79, %80, %81, %82, %83, %84, " \
  "%85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95"
#define MOE_PLACES_256                                                                                         \
  MOE_PLACES_192                                                                                               \
  ", %96, %97, %98, %99, %100, %101, %102, %103, %104, %105, %106, %107, %108, %109, %110, %111, %112, %113, " \
  "%114, %115, %116, %117, %118, %119, %120, %121, %122, %123, %124, %125, %126, %127"
#define MOE_FLOAT(value) "+f"(value)
#define MOE_INTEGER(value) "+r"(value)

// NAME<COLUMNS> with A in shared memory; the places of A and B follow those of the sums. BY_K: 1 if both are panels of
// columns.
#define MOE_WGMMA_SHARED(NAME, TYPES, BY_K, COLUMNS, A, B)                                           \
  template <>                                                                                        \
  __device__ __forceinline__ void NAME<COLUMNS>(float(&d)[COLUMNS / 8][4], uint64_t a, uint64_t b) { \
    MOE_WGMMA("wgmma.mma_async.sync.aligned.m64n" #COLUMNS TYPES " {" MOE_PLACES_##COLUMNS           \
              "}, " A ", " B ", 1, 1, 1, " #BY_K ", " #BY_K ";"                                      \
              : MOE_SUMS_##COLUMNS(MOE_FLOAT, 0)                                                     \
              : "l"(a), "l"(b));                                                                     \
  }
// With A in registers. END: what the instruction says of signs and of B's transposition.
#define MOE_WGMMA_REGISTERS(NAME, TYPES, SUM, REGISTER, END, COLUMNS, A, B, ADDS)                                     \
  template <>                                                                                                         \
  __device__ __forceinline__ void NAME<COLUMNS>(SUM(&d)[COLUMNS / 8][4], const uint32_t(&a)[4], uint64_t b,           \
                                                bool adds) {                                                          \
    MOE_WGMMA("{\n.reg .pred adds;\nsetp.ne.b32 adds, " ADDS ", 0;\nwgmma.mma_async.sync.aligned.m64n" #COLUMNS TYPES \
              " {" MOE_PLACES_##COLUMNS "}, {" A "}, " B ", adds" END ";\n}"                                          \
              : MOE_SUMS_##COLUMNS(REGISTER, 0)                                                                       \
              : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(static_cast<int>(adds)));                     \
  }
#define MOE_WGMMA_REGISTERS_OF_ALL(NAME, TYPES, SUM, REGISTER, END)                            \
  MOE_WGMMA_REGISTERS(NAME, TYPES, SUM, REGISTER, END, 16, "%8, %9, %10, %11", "%12", "%13")   \
  MOE_WGMMA_REGISTERS(NAME, TYPES, SUM, REGISTER, END, 64, "%32, %33, %34, %35", "%36", "%37") \
  MOE_WGMMA_REGISTERS(NAME, TYPES, SUM, REGISTER, END, 128, "%64, %65, %66, %67", "%68", "%69")

namespace ptx {

// Where it is false, kernels only call one of these functions. No plan launches them there, but a driver may take that
// code for a Hopper GPU: with CUDA_FORCE_PTX_JIT, it compiles the PTX for 8.0.
constexpr bool kHasWgmma = MOE_HAS_WGMMA;

// Of a matrix of rows of 128 bytes whose first row begins at a multiple of 1024 bytes, or of 64 bytes and at a multiple
// of 512.
template <int kRowBytes = 128>
__device__ __forceinline__ uint64_t wgmma_descriptor(const void* shared) {
  return gpu::matrix_descriptor<kRowBytes>(shared_address(shared));
}

// Traps unless matrices of such rows may begin here. A kernel checks the start of its shared memory once: a swizzle
// goes by bits of addresses, so a launch that aligned it less would get wrong sums.
template <int kRowBytes = 128>
__device__ __forceinline__ void wgmma_check_base(const void* shared) {
  unsigned address = shared_address(shared);
  // Else the compiler takes the declared alignment for granted.
  asm volatile("" : "+r"(address));
  if (address % (8 * kRowBytes) != 0) __trap();
}

// Of panels of columns, `panel_bytes` apart, whose first row begins at a multiple of 1024 bytes.
__device__ __forceinline__ uint64_t wgmma_panel_descriptor(const void* shared, int panel_bytes) {
  return gpu::panel_descriptor(shared_address(shared), panel_bytes);
}

// The same matrix `bytes` further along K: 32 for each product before, of panels 16 rows.
__device__ __forceinline__ uint64_t wgmma_descriptor_at(uint64_t descriptor, int bytes) {
  return descriptor + static_cast<uint64_t>(bytes / 16);
}

template <int kColumns>
__device__ __forceinline__ void wgmma_k16_bf16(float (&d)[kColumns / 8][4], uint64_t a, uint64_t b);
template <int kColumns>
__device__ __forceinline__ void wgmma_k16_f16(float (&d)[kColumns / 8][4], uint64_t a, uint64_t b);
MOE_WGMMA_SHARED(wgmma_k16_bf16, "k16.f32.bf16.bf16", 0, 128, "%64", "%65")
MOE_WGMMA_SHARED(wgmma_k16_bf16, "k16.f32.bf16.bf16", 0, 256, "%128", "%129")
MOE_WGMMA_SHARED(wgmma_k16_f16, "k16.f32.f16.f16", 0, 128, "%64", "%65")
MOE_WGMMA_SHARED(wgmma_k16_f16, "k16.f32.f16.f16", 0, 256, "%128", "%129")

// Of panels of columns.
template <int kColumns>
__device__ __forceinline__ void wgmma_k16_bf16_panels(float (&d)[kColumns / 8][4], uint64_t a, uint64_t b);
template <int kColumns>
__device__ __forceinline__ void wgmma_k16_f16_panels(float (&d)[kColumns / 8][4], uint64_t a, uint64_t b);
MOE_WGMMA_SHARED(wgmma_k16_bf16_panels, "k16.f32.bf16.bf16", 1, 64, "%32", "%33")
MOE_WGMMA_SHARED(wgmma_k16_bf16_panels, "k16.f32.bf16.bf16", 1, 128, "%64", "%65")
MOE_WGMMA_SHARED(wgmma_k16_bf16_panels, "k16.f32.bf16.bf16", 1, 192, "%96", "%97")
MOE_WGMMA_SHARED(wgmma_k16_f16_panels, "k16.f32.f16.f16", 1, 64, "%32", "%33")
MOE_WGMMA_SHARED(wgmma_k16_f16_panels, "k16.f32.f16.f16", 1, 128, "%64", "%65")
MOE_WGMMA_SHARED(wgmma_k16_f16_panels, "k16.f32.f16.f16", 1, 192, "%96", "%97")

// With A in registers, which must not change until the wait. `adds`: to d, which is replaced otherwise.
template <int kColumns>
__device__ __forceinline__ void wgmma_k16_bf16(float (&d)[kColumns / 8][4], const uint32_t (&a)[4], uint64_t b,
                                               bool adds);
template <int kColumns>
__device__ __forceinline__ void wgmma_k16_f16(float (&d)[kColumns / 8][4], const uint32_t (&a)[4], uint64_t b,
                                              bool adds);
template <int kColumns>
__device__ __forceinline__ void wgmma_k32_e4m3(float (&d)[kColumns / 8][4], const uint32_t (&a)[4], uint64_t b,
                                               bool adds);
template <int kColumns>
__device__ __forceinline__ void wgmma_k32_s8(int32_t (&d)[kColumns / 8][4], const uint32_t (&a)[4], uint64_t b,
                                             bool adds);
MOE_WGMMA_REGISTERS_OF_ALL(wgmma_k16_bf16, "k16.f32.bf16.bf16", float, MOE_FLOAT, ", 1, 1, 0")
MOE_WGMMA_REGISTERS_OF_ALL(wgmma_k16_f16, "k16.f32.f16.f16", float, MOE_FLOAT, ", 1, 1, 0")
MOE_WGMMA_REGISTERS_OF_ALL(wgmma_k32_e4m3, "k32.f32.e4m3.e4m3", float, MOE_FLOAT, ", 1, 1")
MOE_WGMMA_REGISTERS_OF_ALL(wgmma_k32_s8, "k32.s32.s8.s8", int32_t, MOE_INTEGER, "")

// Orders accesses to the registers of sums and of A before the products that follow.
__device__ __forceinline__ void wgmma_fence() { MOE_WGMMA("wgmma.fence.sync.aligned;" ::: "memory"); }

// Closes the group of the products since the last commit.
__device__ __forceinline__ void wgmma_commit() { MOE_WGMMA("wgmma.commit_group.sync.aligned;" ::: "memory"); }

// Waits until at most kPending of the closed groups are incomplete. Until then, the registers of their sums must not be
// touched.
template <int kPending>
__device__ __forceinline__ void wgmma_wait() {
  MOE_WGMMA("wgmma.wait_group.sync.aligned %0;" ::"n"(kPending) : "memory");
}

// Keeps the compiler from moving accesses to registers of sums or of A across this place, which neither a fence nor a
// wait does: keep what is written before a fence, and what is read after a wait.
template <class Register>
__device__ __forceinline__ void wgmma_keep(Register (&registers)[4]) {
#pragma unroll
  for (Register& value : registers) {
    if constexpr (std::is_same_v<Register, float>) {
      asm volatile("" : MOE_FLOAT(value)::"memory");
    } else {
      asm volatile("" : MOE_INTEGER(value)::"memory");
    }
  }
}
template <class Sum, int kCount>
__device__ __forceinline__ void wgmma_keep(Sum (&d)[kCount][4]) {
#pragma unroll
  for (auto& registers : d) wgmma_keep(registers);
}

// Makes this thread's earlier writes to shared memory visible to products. A barrier makes them visible to those of
// other threads.
__device__ __forceinline__ void fence_proxy_async() { MOE_WGMMA("fence.proxy.async.shared::cta;" ::: "memory"); }

}  // namespace ptx

#undef MOE_HAS_WGMMA
#undef MOE_WGMMA
#undef MOE_SUMS_8
#undef MOE_SUMS_16
#undef MOE_SUMS_32
#undef MOE_SUMS_64
#undef MOE_SUMS_128
#undef MOE_SUMS_192
#undef MOE_SUMS_256
#undef MOE_PLACES_16
#undef MOE_PLACES_64
#undef MOE_PLACES_128
#undef MOE_PLACES_192
#undef MOE_PLACES_256
#undef MOE_FLOAT
#undef MOE_INTEGER
#undef MOE_WGMMA_SHARED
#undef MOE_WGMMA_REGISTERS
#undef MOE_WGMMA_REGISTERS_OF_ALL

}  // namespace moe::MOE_GPU_NAMESPACE
