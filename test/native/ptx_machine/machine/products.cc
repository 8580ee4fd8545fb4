// Products of tensor cores: mma of a warp, and wgmma of four. PTX ISA, "Matrix Fragments for mma" and "Asynchronous
// warpgroup level matrix instructions".
#include <cstring>
#include <stdexcept>

#include "gpu/target/simt/ptx/products.h"
#include "lanes.h"

namespace ptx_machine {
namespace {

using moe::simt::machine::Bf16;
using moe::simt::machine::E4M3;
using moe::simt::machine::F16;
using moe::simt::machine::multiply_add;
using moe::simt::machine::S8;
using moe::simt::machine::Tf32;

constexpr unsigned kRows = 16, kColumns = 8;

// With g = lane / 4 and t = lane % 4, register j of A has row g + 8 (j % 2), and begins at element t of the half j / 2
// of K, in registers.
template <class Element, unsigned kDepth>
void read_a(Warp& warp, const uint32_t* registers, typename Element::Sum (&a)[kRows][kDepth]) {
  constexpr unsigned kEach = Element::kPerRegister;
  for (unsigned j = 0; j < kDepth / (4 * kEach) * 2; ++j) {
    const uint32_t* values = warp.at<uint32_t>(registers[j]);
    for (unsigned lane = 0; lane < kLanes; ++lane) {
      const unsigned row = lane / 4 + 8 * (j % 2), k = kEach * (lane % 4 + 4 * (j / 2));
      for (unsigned i = 0; i < kEach; ++i) a[row][k + i] = Element::value(values[lane], i);
    }
  }
}

// Register j of B has column g, at the same places of K.
template <class Element, unsigned kDepth>
void read_b(Warp& warp, const uint32_t* registers, typename Element::Row (&b)[kDepth]) {
  constexpr unsigned kEach = Element::kPerRegister;
  for (unsigned j = 0; j < kDepth / (4 * kEach); ++j) {
    const uint32_t* values = warp.at<uint32_t>(registers[j]);
    for (unsigned lane = 0; lane < kLanes; ++lane) {
      const unsigned column = lane / 4, k = kEach * (lane % 4 + 4 * j);
      for (unsigned i = 0; i < kEach; ++i) b[k + i][column] = Element::value(values[lane], i);
    }
  }
}

// Register j of the sums has row g + 8 (j / 2) and column 2 t + j % 2.
template <class Body>
void for_sums(Body&& body) {
  for (unsigned j = 0; j < 4; ++j) {
    for (unsigned lane = 0; lane < kLanes; ++lane) body(j, lane, lane / 4 + 8 * (j / 2), lane % 4 * 2 + j % 2);
  }
}
template <class Row>
void read_sums(Warp& warp, const uint32_t* registers, Row (&d)[kRows]) {
  using Sum = std::remove_cvref_t<decltype(d[0][0])>;
  for_sums([&](unsigned j, unsigned lane, unsigned row, unsigned column) {
    d[row][column] = warp.at<Sum>(registers[j])[lane];
  });
}
template <class Row>
void write_sums(Warp& warp, const uint32_t* registers, const Row (&d)[kRows]) {
  using Sum = std::remove_cvref_t<decltype(d[0][0])>;
  for_sums([&](unsigned j, unsigned lane, unsigned row, unsigned column) {
    warp.at<Sum>(registers[j])[lane] = d[row][column];
  });
}

template <class Element, unsigned kDepth>
void mma(Warp& warp, const Instruction& in, Mask) {
  constexpr unsigned kA = kDepth / (4 * Element::kPerRegister) * 2, kB = kA / 2;
  typename Element::Sum a[kRows][kDepth];
  typename Element::Row b[kDepth], d[kRows];
  read_a<Element>(warp, in.operands + 4, a);
  read_b<Element>(warp, in.operands + 4 + kA, b);
  read_sums(warp, in.operands + 4 + kA + kB, d);
  multiply_add<Element>(a, b, d);
  write_sums(warp, in.operands, d);
}

void build_mma(Building& b) {
  b.words.expect({"sync", "aligned", "row", "col"});
  const std::string shape = b.words.take_one({"m16n8k8", "m16n8k16", "m16n8k32"});
  const std::string element = b.words.take_one({"bf16", "f16", "tf32", "e4m3", "s8"});
  const std::string_view sum = element == "s8" ? "s32" : "f32";
  b.words.expect({element, sum, sum});
  for (size_t i = 0; i < 4; ++i) b.add_parts(i, 32);
  const auto is = [&](std::string_view e, std::string_view s) { return element == e && shape == s; };
  size_t registers = 14;
  if (is("bf16", "m16n8k16")) {
    b.instruction.step = mma<Bf16, 16>;
  } else if (is("f16", "m16n8k16")) {
    b.instruction.step = mma<F16, 16>;
  } else if (is("tf32", "m16n8k8")) {
    b.instruction.step = mma<Tf32, 8>;
  } else if (is("e4m3", "m16n8k32")) {
    b.instruction.step = mma<E4M3, 32>;
  } else if (is("s8", "m16n8k32")) {
    b.instruction.step = mma<S8, 32>;
  } else if (is("s8", "m16n8k16")) {
    b.instruction.step = mma<S8, 16>;
    registers = 11;
  } else {
    b.words.unknown();
  }
  if (b.operands.size() != registers) throw std::runtime_error("mma has a different number of registers");
  b.instruction.flow = Flow::together;
}

// A matrix in shared memory, by its descriptor. The swizzle changes bits 4 to 6 of an address.
class SharedMatrix {
 public:
  SharedMatrix(Warp& warp, uint64_t descriptor, bool transposed) : warp_(warp), transposed_(transposed) {
    const auto field = [&](int from) { return static_cast<uint32_t>(descriptor >> from & 0x3fff) << 4; };
    begin_ = field(0);
    leading_ = field(16);
    stride_ = field(32);
    const auto swizzle = static_cast<unsigned>(descriptor >> 62);
    if (swizzle == 0) warp.fault("a matrix without a swizzle is not known");
    if ((descriptor >> 49 & 7) != 0) warp.fault("a matrix with a base offset is not known");
    // 1: rows of 128 bytes, 2: of 64, 3: of 32.
    row_bytes_ = 256u >> swizzle;
    if (transposed && row_bytes_ != 128) warp.fault("panels of other rows than of 128 bytes are not known");
  }

  // `outer` is a row of A or a column of B. Elements of a transposed matrix have two bytes.
  template <class T>
  T read(unsigned outer, unsigned k) const {
    uint32_t address = begin_;
    if (transposed_) {
      constexpr unsigned kPanel = 128 / sizeof(T);
      address += outer / kPanel * leading_ + outer % kPanel * sizeof(T) + k / 8 * stride_ + k % 8 * 128;
    } else {
      address += outer / 8 * stride_ + outer % 8 * row_bytes_ + k * static_cast<uint32_t>(sizeof(T));
    }
    address ^= (address >> 7 & (row_bytes_ / 16 - 1)) << 4;
    T value;
    std::memcpy(&value, warp_.shared(address, sizeof value), sizeof value);
    return value;
  }

 private:
  Warp& warp_;
  uint32_t begin_, leading_, stride_, row_bytes_;
  bool transposed_;
};

struct Wgmma {
  unsigned columns;
  bool a_in_registers, a_transposed, b_transposed;
};

// The 16 of the 64 rows that this warp computes. Sums, A, B, and whether the product is added to the old sums.
template <class Element>
void wgmma(Warp& warp, const Instruction& in, Mask) {
  constexpr unsigned kEach = Element::kPerRegister, kDepth = 8 * kEach;
  using Code = std::conditional_t<kEach == 2, uint16_t, uint8_t>;
  const auto& shape = *static_cast<const Wgmma*>(in.details);
  const uint32_t* a_at = in.operands + shape.columns / 2;
  const uint32_t* b_at = a_at + (shape.a_in_registers ? 4 : 1);
  const auto descriptor = [&](uint32_t place) {
    const uint64_t* values = warp.at<uint64_t>(place);
    for (unsigned lane = 1; lane < kLanes; ++lane) {
      if (values[lane] != values[0]) warp.fault("lanes have different descriptors of a matrix");
    }
    return values[0];
  };
  typename Element::Sum a[kRows][kDepth];
  if (shape.a_in_registers) {
    read_a<Element>(warp, a_at, a);
  } else {
    const SharedMatrix matrix(warp, descriptor(*a_at), shape.a_transposed);
    for (unsigned row = 0; row < kRows; ++row) {
      for (unsigned k = 0; k < kDepth; ++k) {
        a[row][k] = Element::value(matrix.template read<Code>(warp.index() % 4 * kRows + row, k), 0);
      }
    }
  }
  const SharedMatrix matrix(warp, descriptor(*b_at), shape.b_transposed);
  const bool adds = warp.predicate(b_at[1]) == kAll;
  if (!adds && warp.predicate(b_at[1]) != 0) warp.fault("only some lanes add to their sums");
  for (unsigned first = 0; first < shape.columns; first += kColumns) {
    typename Element::Row b[kDepth], d[kRows]{};
    for (unsigned k = 0; k < kDepth; ++k) {
      for (unsigned column = 0; column < kColumns; ++column) {
        b[k][column] = Element::value(matrix.template read<Code>(first + column, k), 0);
      }
    }
    const uint32_t* sums = in.operands + first / 2;
    if (adds) read_sums(warp, sums, d);
    multiply_add<Element>(a, b, d);
    write_sums(warp, sums, d);
  }
}

void build_wgmma(Building& b) {
  b.words.expect({"sync", "aligned"});
  b.instruction.flow = Flow::together;
  b.instruction.step = nothing;
  // Products are complete at once.
  if (b.words.take("fence") || b.words.take("commit_group")) return;
  if (b.words.take("wait_group")) return static_cast<void>(b.number(0));
  b.words.expect({"mma_async"});
  const std::string element = b.words.take_one({"bf16", "f16", "e4m3", "s8"});
  b.words.expect({element, element == "s8" ? "s32" : "f32"});
  const bool has_bytes = element == "e4m3" || element == "s8";
  Wgmma shape{};
  for (unsigned columns = 8; columns <= 256; columns += 8) {
    if (b.words.take("m64n" + std::to_string(columns) + (has_bytes ? "k32" : "k16"))) shape.columns = columns;
  }
  if (shape.columns == 0) b.words.unknown();
  if (b.argument(0).parts.size() != shape.columns / 2) throw std::runtime_error("wgmma has other sums than columns");
  b.add_parts(0, 32);
  shape.a_in_registers = b.argument(1).is_vector;
  if (shape.a_in_registers && b.argument(1).parts.size() != 4) throw std::runtime_error("A has four registers");
  b.add_parts(1, shape.a_in_registers ? 32 : 64);
  b.add(2, 64);
  if (b.add_predicate(3)) b.words.unknown();
  size_t next = 4;
  if (element != "s8") {
    if (b.number(next) != 1 || b.number(next + 1) != 1) throw std::runtime_error("negated matrices are not known");
    next += 2;
  }
  if (!has_bytes) {
    if (!shape.a_in_registers) shape.a_transposed = b.number(next++) != 0;
    shape.b_transposed = b.number(next) != 0;
  }
  b.set_details(shape);
  b.instruction.step = element == "bf16"   ? wgmma<Bf16>
                       : element == "f16"  ? wgmma<F16>
                       : element == "e4m3" ? wgmma<E4M3>
                                           : wgmma<S8>;
}

}  // namespace

void add_products(Builders& builders) {
  builders["mma"] = build_mma;
  builders["wgmma"] = build_wgmma;
}

}  // namespace ptx_machine
