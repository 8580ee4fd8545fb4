// wgmma: D[64, columns] += A[64, K] B[columns, K]^T by a warpgroup, four consecutive warps, in the background. A and B
// are in shared memory, in rows of 128 bytes; a product takes 32 bytes of each. Warp w of the group has rows 16 w to
// 16 w + 15 of D, as in mma.cuh: d[n] are the columns from 8 n on.
#pragma once

#include <cstdint>
#include <source_location>

#include "gpu/tile/matrix_descriptor.h"
#include "ptx/device.cuh"
#include "simt/async_products.h"

namespace moe::simt {

namespace machine {

extern const Collective kWgmmaBf16, kWgmmaF16, kWgmmaFence, kWgmmaCommit, kWgmmaWait;

template <int kColumns>
void multiply_async(const Collective& collective, const std::source_location& where, float (&d)[kColumns / 8][4],
                    uint64_t a, uint64_t b) {
  ProductOperand operand{d[0], kColumns, a, b};
  meet(collective, where, 0xffffffffu, &operand);
}

}  // namespace machine

namespace ptx {

// Of a matrix whose first row begins at a multiple of 1024 bytes, plus 32 for each product before.
inline uint64_t wgmma_descriptor(const void* shared, std::source_location where = std::source_location::current()) {
  return gpu::matrix_descriptor(machine::dynamic_offset({"wgmma_descriptor", where}, shared));
}

template <int kColumns>
void wgmma_k16_bf16(float (&d)[kColumns / 8][4], uint64_t a, uint64_t b,
                    std::source_location where = std::source_location::current()) {
  machine::multiply_async<kColumns>(machine::kWgmmaBf16, where, d, a, b);
}
template <int kColumns>
void wgmma_k16_f16(float (&d)[kColumns / 8][4], uint64_t a, uint64_t b,
                   std::source_location where = std::source_location::current()) {
  machine::multiply_async<kColumns>(machine::kWgmmaF16, where, d, a, b);
}

// Orders accesses to the registers of sums before the products that follow.
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

// Keeps the compiler from moving accesses to the registers of sums across this place.
template <int kCount>
void wgmma_keep(float (&)[kCount][4]) {}

// Makes this thread's earlier writes to shared memory visible to products. A barrier makes them visible to those of
// other threads.
inline void fence_proxy_async() { machine::fence_proxy_async(); }

}  // namespace ptx

}  // namespace moe::simt
