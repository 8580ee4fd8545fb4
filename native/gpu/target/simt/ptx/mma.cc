#include "ptx/mma.cuh"

#include "ptx/products.h"

namespace moe::simt::machine {

namespace {

// `kRegisters` of B, and twice as many of A.
template <class Element, unsigned kRegisters = 2>
void multiply_fragments(const Call&, uint32_t, void* const* operands) {
  using Sum = typename Element::Sum;
  constexpr unsigned kPer = Element::kPerRegister;
  constexpr unsigned kDepth = 4 * kPer * kRegisters;
  using Row = typename Element::Row;
  Sum a[kProductRows][kDepth];
  Row b[kDepth], d[kProductRows];

  for (unsigned lane = 0; lane < 32; ++lane) {
    const MmaOperand& operand = *static_cast<const MmaOperand*>(operands[lane]);
    const Sum* sums = static_cast<const Sum*>(operand.d);
    const unsigned g = lane / 4, t = lane % 4;
    for (unsigned r = 0; r < 2 * kRegisters; ++r) {
      for (unsigned i = 0; i < kPer; ++i) {
        a[g + 8 * (r % 2)][kPer * t + 4 * kPer * (r / 2) + i] = Element::value(operand.a[r], i);
      }
    }
    for (unsigned r = 0; r < 4; ++r) d[g + 8 * (r / 2)][2 * t + r % 2] = sums[r];
    for (unsigned r = 0; r < kRegisters; ++r) {
      for (unsigned i = 0; i < kPer; ++i) b[kPer * t + 4 * kPer * r + i][g] = Element::value(operand.b[r], i);
    }
  }

  multiply_add<Element>(a, b, d);

  for (unsigned lane = 0; lane < 32; ++lane) {
    Sum* sums = static_cast<Sum*>(static_cast<const MmaOperand*>(operands[lane])->d);
    const unsigned g = lane / 4, t = lane % 4;
    for (unsigned r = 0; r < 4; ++r) sums[r] = d[g + 8 * (r / 2)][2 * t + r % 2];
  }
}

}  // namespace

const Collective kMmaBf16{"mma_m16n8k16_bf16", true, false, multiply_fragments<Bf16>};
const Collective kMmaF16{"mma_m16n8k16_f16", true, false, multiply_fragments<F16>};
const Collective kMmaTf32{"mma_m16n8k8_tf32", true, false, multiply_fragments<Tf32>};
const Collective kMmaS8{"mma_m16n8k32_s8", true, false, multiply_fragments<S8>};
const Collective kMmaS8K16{"mma_m16n8k16_s8", true, false, multiply_fragments<S8, 1>};
const Collective kMmaE4M3{"mma_m16n8k32_e4m3", true, false, multiply_fragments<E4M3>};

}  // namespace moe::simt::machine
