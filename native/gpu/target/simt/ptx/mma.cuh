// mma.sync: D[16,8] += A[16,K] B[K,8] by a warp, each lane holding a fragment of each matrix.
//
// With P elements in a 32-bit register (lowest bits first), K = 8 P (or 4 P, without the registers of B above 0 and
// those of A above 1), and for lane l, g = l / 4, t = l % 4:
//   register r of A, element i: row g + 8 (r % 2), column P t + 4 P (r / 2) + i
//   register r of B, element i: row P t + 4 P r + i, column g
//   register r of D: row g + 8 (r / 2), column 2 t + r % 2
// Products are exact. They are added to D in float32, or int32, one by one in order of K. On hardware, the order and
// rounding of these sums are unspecified. Those of e4m3 are what was found of sm_89 and sm_90 (DeepSeek-V3, arXiv
// 2412.19437, 3.3.2; SageAttention2, 2411.10958, 3.3): of each product and of D, bits down to 2^-13 of the largest
// one's leading bit count, and of the sum 13 bits behind its own.
#pragma once

#include <cstdint>
#include <source_location>

#include "ptx/device.cuh"

namespace moe::simt {

namespace machine {

struct MmaOperand {
  void* d;  // 4 accumulators
  const uint32_t* a;
  const uint32_t* b;
};

extern const Collective kMmaBf16, kMmaF16, kMmaTf32, kMmaS8, kMmaS8K16, kMmaE4M3;

}  // namespace machine

namespace ptx {

inline void mma_m16n8k16_bf16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2],
                              std::source_location where = std::source_location::current()) {
  machine::MmaOperand operand{d, a, b};
  machine::meet(machine::kMmaBf16, where, 0xffffffffu, &operand);
}
inline void mma_m16n8k16_f16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2],
                             std::source_location where = std::source_location::current()) {
  machine::MmaOperand operand{d, a, b};
  machine::meet(machine::kMmaF16, where, 0xffffffffu, &operand);
}
// Only the upper 19 bits of each operand count: round with cvt_rna_tf32 first.
inline void mma_m16n8k8_tf32(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2],
                             std::source_location where = std::source_location::current()) {
  machine::MmaOperand operand{d, a, b};
  machine::meet(machine::kMmaTf32, where, 0xffffffffu, &operand);
}
// Sums wrap.
inline void mma_m16n8k32_s8(int32_t (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2],
                            std::source_location where = std::source_location::current()) {
  machine::MmaOperand operand{d, a, b};
  machine::meet(machine::kMmaS8, where, 0xffffffffu, &operand);
}
inline void mma_m16n8k16_s8(int32_t (&d)[4], const uint32_t (&a)[2], const uint32_t (&b)[1],
                            std::source_location where = std::source_location::current()) {
  machine::MmaOperand operand{d, a, b};
  machine::meet(machine::kMmaS8K16, where, 0xffffffffu, &operand);
}
inline void mma_m16n8k32_e4m3(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2],
                              std::source_location where = std::source_location::current()) {
  machine::MmaOperand operand{d, a, b};
  machine::meet(machine::kMmaE4M3, where, 0xffffffffu, &operand);
}

// The nearest tf32 number (10 bits of mantissa), ties away from zero. NaN becomes the canonical NaN.
inline uint32_t cvt_rna_tf32(float value) {
  const uint32_t bits = __float_as_uint(value);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return 0x7fffffffu;
  if ((bits & 0x7f800000u) == 0x7f800000u) return bits;
  return (bits + 0x1000u) & ~0x1fffu;
}

}  // namespace ptx

}  // namespace moe::simt
