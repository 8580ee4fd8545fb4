#include "ptx/wgmma.cuh"

#include <cstring>

#include "ptx/products.h"
#include "simt/multiprocessor.h"

namespace moe::simt::machine {

namespace {

constexpr unsigned kRowBytes = 32;

AsyncProducts& products() { return Multiprocessor::current().warp().products(); }

template <class Element, class Value>
void widen(const std::byte* row, Value&& value) {
  for (unsigned i = 0; i < kRowBytes / sizeof(uint32_t); ++i) {
    uint32_t bits;
    memcpy(&bits, row + i * sizeof bits, sizeof bits);
    for (unsigned j = 0; j < Element::kPerRegister; ++j) {
      value(i * Element::kPerRegister + j) = Element::value(bits, j);
    }
  }
}

template <class Element>
void multiply_rows(const std::byte* a, const std::byte* b, unsigned columns, uint32_t* sums) {
  using Sum = typename Element::Sum;
  using Row = typename Element::Row;
  constexpr unsigned kDepth = kRowBytes / sizeof(uint32_t) * Element::kPerRegister;
  Sum left[kProductRows][kDepth];
  for (unsigned row = 0; row < kProductRows; ++row) {
    widen<Element>(a + row * kRowBytes, [&](unsigned k) -> Sum& { return left[row][k]; });
  }
  for (unsigned first = 0; first < columns; first += kProductColumns) {
    Row right[kDepth], d[kProductRows];
    for (unsigned column = 0; column < kProductColumns; ++column) {
      Sum values[kDepth];
      widen<Element>(b + (first + column) * kRowBytes, [&](unsigned k) -> Sum& { return values[k]; });
      for (unsigned k = 0; k < kDepth; ++k) right[k][column] = values[k];
    }
    for (unsigned row = 0; row < kProductRows; ++row) memcpy(&d[row], sums + row * columns + first, sizeof d[row]);
    multiply_add<Element>(left, right, d);
    for (unsigned row = 0; row < kProductRows; ++row) memcpy(sums + row * columns + first, &d[row], sizeof d[row]);
  }
}

template <class Element>
void issue(const Call& call, uint32_t, void* const* operands) {
  products().issue(call, multiply_rows<Element>, operands, Multiprocessor::current().draw_early());
}

void fence(const Call&, uint32_t, void* const*) { products().fence(); }
void commit(const Call&, uint32_t, void* const*) { products().commit(); }
void wait(const Call&, uint32_t, void* const* operands) { products().wait(*static_cast<const size_t*>(operands[0])); }

}  // namespace

void keep_fragment(const uint32_t* registers) { products().keep(lane(), registers); }

const Collective kWgmmaBf16{"wgmma_k16_bf16", true, false, issue<Bf16>};
const Collective kWgmmaF16{"wgmma_k16_f16", true, false, issue<F16>};
const Collective kWgmmaS8{"wgmma_k32_s8", true, false, issue<S8>};
const Collective kWgmmaE4M3{"wgmma_k32_e4m3", true, false, issue<E4M3>};
const Collective kWgmmaFence{"wgmma_fence", true, false, fence};
const Collective kWgmmaCommit{"wgmma_commit", true, false, commit};
const Collective kWgmmaWait{"wgmma_wait", true, false, wait};

}  // namespace moe::simt::machine
