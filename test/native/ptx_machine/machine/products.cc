// Products of a warp's tensor cores.
#include <stdexcept>

#include "fragments.h"
#include "lanes.h"

namespace ptx_machine {
namespace {

template <class Element, unsigned kDepth>
void mma(Warp& warp, const Instruction& in, Mask) {
  constexpr unsigned kA = kDepth / (4 * Element::kPerRegister) * 2, kB = kA / 2;
  typename Element::Sum a[kRows][kDepth];
  typename Element::Row b[kDepth], d[kRows];
  read_a<Element>(warp, in.operands + 4, a);
  read_b<Element>(warp, in.operands + 4 + kA, b);
  read_sums([&](unsigned j) { return warp.at<uint32_t>(in.operands[4 + kA + kB + j]); }, d);
  multiply_add<Element>(a, b, d);
  write_sums([&](unsigned j) { return warp.at<uint32_t>(in.operands[j]); }, d);
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

}  // namespace

void add_products(Builders& builders) { builders["mma"] = build_mma; }

}  // namespace ptx_machine
