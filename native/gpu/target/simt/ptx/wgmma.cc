#include "ptx/wgmma.cuh"

#include <cstring>

#include "core/dtype.h"
#include "simt/multiprocessor.h"

namespace moe::simt::machine {

namespace {

AsyncProducts& products() { return Multiprocessor::current().warp().products(); }

template <class Element>
void widen(const std::byte* row, float* values) {
  Element elements[16];
  memcpy(elements, row, sizeof elements);
  for (int i = 0; i < 16; ++i) values[i] = static_cast<float>(elements[i]);
}

template <class Element>
void issue(const Call& call, uint32_t, void* const* operands) {
  static constexpr ProductElements kElements{16, widen<Element>};
  products().issue(call, kElements, operands, Multiprocessor::current().options().async == AsyncMode::early);
}

void fence(const Call&, uint32_t, void* const*) { products().fence(); }
void commit(const Call&, uint32_t, void* const*) { products().commit(); }
void wait(const Call&, uint32_t, void* const* operands) { products().wait(*static_cast<const size_t*>(operands[0])); }

}  // namespace

const Collective kWgmmaBf16{"wgmma_k16_bf16", true, false, issue<bf16>};
const Collective kWgmmaF16{"wgmma_k16_f16", true, false, issue<f16>};
const Collective kWgmmaFence{"wgmma_fence", true, false, fence};
const Collective kWgmmaCommit{"wgmma_commit", true, false, commit};
const Collective kWgmmaWait{"wgmma_wait", true, false, wait};

}  // namespace moe::simt::machine
