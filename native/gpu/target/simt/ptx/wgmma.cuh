// wgmma: D[64, columns] += A[64, K] B[columns, K]^T by a warpgroup, four consecutive warps, in the background. A
// product takes 32 bytes of each row of A and B, which are in shared memory; or A is in registers. Warp w of the group
// has rows 16 w to 16 w + 15 of A and D, as in mma.cuh: d[n] are the columns from 8 n on.
#pragma once

#include <cstdint>
#include <source_location>
#include <type_traits>

#include "gpu/tile/matrix_descriptor.h"
#include "ptx/device.cuh"
#include "simt/async_products.h"

namespace moe::simt {

namespace machine {

extern const Collective kWgmmaBf16, kWgmmaF16, kWgmmaS8, kWgmmaE4M3, kWgmmaFence, kWgmmaCommit, kWgmmaWait;

// Registers of A.
void keep_fragment(const uint32_t* registers);

template <class Sum, int kCount>
void multiply_async(const Collective& collective, const std::source_location& where, Sum (&d)[kCount][4], uint64_t a,
                    uint64_t b, bool panels = false) {
  ProductOperand operand{reinterpret_cast<uint32_t*>(d[0]), kCount * 8, nullptr, a, b, true, panels};
  meet(collective, where, 0xffffffffu, &operand);
}
template <class Sum, int kCount>
void multiply_async(const Collective& collective, const std::source_location& where, Sum (&d)[kCount][4],
                    const uint32_t (&a)[4], uint64_t b, bool adds) {
  ProductOperand operand{reinterpret_cast<uint32_t*>(d[0]), kCount * 8, a, 0, b, adds, false};
  meet(collective, where, 0xffffffffu, &operand);
}

}  // namespace machine

namespace ptx {

constexpr bool kHasWgmma = true;

// Of a matrix of rows of 128 bytes whose first row begins at a multiple of 1024 bytes, or of 64 bytes and at a multiple
// of 512.
template <int kRowBytes = 128>
uint64_t wgmma_descriptor(const void* shared, std::source_location where = std::source_location::current()) {
  return gpu::matrix_descriptor<kRowBytes>(machine::dynamic_offset({"wgmma_descriptor", where}, shared));
}

// Fails unless matrices of such rows may begin here. A kernel checks the start of its shared memory once: a swizzle
// goes by bits of addresses, so a launch that aligned it less would get wrong sums.
template <int kRowBytes = 128>
void wgmma_check_base(const void* shared, std::source_location where = std::source_location::current()) {
  machine::check_aligned({"wgmma_check_base", where}, shared, 8 * kRowBytes);
}

// Of panels of columns, `panel_bytes` apart, whose first row begins at a multiple of 1024 bytes.
inline uint64_t wgmma_panel_descriptor(const void* shared, int panel_bytes,
                                       std::source_location where = std::source_location::current()) {
  return gpu::panel_descriptor(machine::dynamic_offset({"wgmma_panel_descriptor", where}, shared), panel_bytes);
}

// The same matrix `bytes` further along K: 32 for each product before, of panels 16 rows.
inline uint64_t wgmma_descriptor_at(uint64_t descriptor, int bytes) {
  return descriptor + static_cast<uint64_t>(bytes / 16);
}

template <int kColumns>
void wgmma_k16_bf16(float (&d)[kColumns / 8][4], uint64_t a, uint64_t b,
                    std::source_location where = std::source_location::current()) {
  machine::multiply_async(machine::kWgmmaBf16, where, d, a, b);
}
template <int kColumns>
void wgmma_k16_f16(float (&d)[kColumns / 8][4], uint64_t a, uint64_t b,
                   std::source_location where = std::source_location::current()) {
  machine::multiply_async(machine::kWgmmaF16, where, d, a, b);
}

// Of panels of columns.
template <int kColumns>
void wgmma_k16_bf16_panels(float (&d)[kColumns / 8][4], uint64_t a, uint64_t b,
                           std::source_location where = std::source_location::current()) {
  machine::multiply_async(machine::kWgmmaBf16, where, d, a, b, true);
}
template <int kColumns>
void wgmma_k16_f16_panels(float (&d)[kColumns / 8][4], uint64_t a, uint64_t b,
                          std::source_location where = std::source_location::current()) {
  machine::multiply_async(machine::kWgmmaF16, where, d, a, b, true);
}

// With A in registers, which must not change until the wait. `adds`: to d, which is replaced otherwise.
template <int kColumns>
void wgmma_k16_bf16(float (&d)[kColumns / 8][4], const uint32_t (&a)[4], uint64_t b, bool adds,
                    std::source_location where = std::source_location::current()) {
  machine::multiply_async(machine::kWgmmaBf16, where, d, a, b, adds);
}
template <int kColumns>
void wgmma_k16_f16(float (&d)[kColumns / 8][4], const uint32_t (&a)[4], uint64_t b, bool adds,
                   std::source_location where = std::source_location::current()) {
  machine::multiply_async(machine::kWgmmaF16, where, d, a, b, adds);
}
template <int kColumns>
void wgmma_k32_s8(int32_t (&d)[kColumns / 8][4], const uint32_t (&a)[4], uint64_t b, bool adds,
                  std::source_location where = std::source_location::current()) {
  machine::multiply_async(machine::kWgmmaS8, where, d, a, b, adds);
}
template <int kColumns>
void wgmma_k32_e4m3(float (&d)[kColumns / 8][4], const uint32_t (&a)[4], uint64_t b, bool adds,
                    std::source_location where = std::source_location::current()) {
  machine::multiply_async(machine::kWgmmaE4M3, where, d, a, b, adds);
}

// Orders accesses to the registers of sums and of A before the products that follow.
inline void wgmma_fence(std::source_location where = std::source_location::current()) {
  machine::meet(machine::kWgmmaFence, where, 0xffffffffu, nullptr);
}

// Closes the group of the products since the last commit.
inline void wgmma_commit(std::source_location where = std::source_location::current()) {
  machine::meet(machine::kWgmmaCommit, where, 0xffffffffu, nullptr);
}

// Waits until at most kPending of the closed groups are incomplete. Until then, the registers of their sums must not be
// touched.
template <int kPending>
void wgmma_wait(std::source_location where = std::source_location::current()) {
  size_t pending = kPending;
  machine::meet(machine::kWgmmaWait, where, 0xffffffffu, &pending);
}

// Keeps the compiler from moving accesses to registers of sums or of A across this place, which neither a fence nor a
// wait does: keep what is written before a fence, and what is read after a wait.
template <class Register>
void wgmma_keep(Register (&registers)[4]) {
  if constexpr (std::is_same_v<Register, uint32_t>) machine::keep_fragment(registers);
}
template <class Sum, int kCount>
void wgmma_keep(Sum (&d)[kCount][4]) {
  for (auto& registers : d) wgmma_keep(registers);
}

// Makes this thread's earlier writes to shared memory visible to products. A barrier makes them visible to those of
// other threads.
inline void fence_proxy_async() { machine::fence_proxy_async(); }

}  // namespace ptx

}  // namespace moe::simt
