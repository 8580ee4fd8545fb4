// Products of four warps, which the GPU does in the background: wgmma. PTX ISA, "Asynchronous warpgroup level matrix
// instructions".
#include <cstring>
#include <stdexcept>

#include "fragments.h"
#include "lanes.h"

namespace ptx_machine {
namespace {

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

// What an instruction says of its matrices.
struct Wgmma {
  unsigned columns;
  bool a_in_registers, a_transposed, b_transposed;
};

// Of the 64 rows, the 16 that this warp computes.
template <class Element>
void multiply(Warp& warp, const Product& product, uint32_t* sums) {
  constexpr unsigned kEach = Element::kPerRegister, kDepth = 8 * kEach;
  using Code = std::conditional_t<kEach == 2, uint16_t, uint8_t>;
  const auto& shape = *static_cast<const Wgmma*>(product.details);
  typename Element::Sum a[kRows][kDepth];
  if (shape.a_in_registers) {
    read_a<Element>(warp, product.a_registers, a);
  } else {
    const SharedMatrix matrix(warp, product.a, shape.a_transposed);
    for (unsigned row = 0; row < kRows; ++row) {
      for (unsigned k = 0; k < kDepth; ++k) {
        a[row][k] = Element::value(matrix.template read<Code>(warp.index() % 4 * kRows + row, k), 0);
      }
    }
  }
  const SharedMatrix matrix(warp, product.b, shape.b_transposed);
  for (unsigned first = 0; first < shape.columns; first += kColumns) {
    typename Element::Row b[kDepth], d[kRows]{};
    for (unsigned k = 0; k < kDepth; ++k) {
      for (unsigned column = 0; column < kColumns; ++column) {
        b[k][column] = Element::value(matrix.template read<Code>(first + column, k), 0);
      }
    }
    const auto values = [&](unsigned j) { return sums + (first / 2 + j) * kLanes; };
    if (product.adds) read_sums(values, d);
    multiply_add<Element>(a, b, d);
    write_sums(values, d);
  }
}

// Sums, A, B, and whether the product is added to the old sums.
template <class Element>
void begin(Warp& warp, const Instruction& in, Mask) {
  const auto& shape = *static_cast<const Wgmma*>(in.details);
  const auto descriptor = [&](uint32_t place) {
    const uint64_t* values = warp.at<uint64_t>(place);
    for (unsigned lane = 1; lane < kLanes; ++lane) {
      if (values[lane] != values[0]) warp.fault("lanes have different descriptors of a matrix");
    }
    return values[0];
  };
  Product product{.multiply = multiply<Element>, .details = in.details};
  product.sums = {in.operands, shape.columns / 2};
  const uint32_t* next = in.operands + shape.columns / 2;
  if (shape.a_in_registers) {
    product.a_registers = next;
    next += 4;
  } else {
    product.a = descriptor(*next++);
  }
  product.b = descriptor(*next++);
  const Mask adds = warp.predicate(*next);
  product.adds = adds == kAll;
  if (!product.adds && adds != 0) warp.fault("only some lanes add to their sums");
  warp.begin_product(std::move(product));
}

void fence(Warp& warp, const Instruction&, Mask) { warp.fence_products(); }
void commit(Warp& warp, const Instruction&, Mask) { warp.commit_products(); }
void wait(Warp& warp, const Instruction& in, Mask) { warp.wait_for_products(static_cast<size_t>(in.immediate)); }

void build_wgmma(Building& b) {
  b.words.expect({"sync", "aligned"});
  b.instruction.flow = Flow::together;
  if (b.words.take("fence")) {
    b.instruction.step = fence;
    return;
  }
  if (b.words.take("commit_group")) {
    b.instruction.step = commit;
    return;
  }
  if (b.words.take("wait_group")) {
    b.instruction.immediate = static_cast<int64_t>(b.number(0));
    b.instruction.step = wait;
    return;
  }
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
  const size_t registers = shape.columns / 2 + (shape.a_in_registers ? 4 : 0);
  b.assembler.program().product_registers.insert(b.operands.begin(),
                                                 b.operands.begin() + static_cast<ptrdiff_t>(registers));
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
  b.instruction.step = element == "bf16"   ? begin<Bf16>
                       : element == "f16"  ? begin<F16>
                       : element == "e4m3" ? begin<E4M3>
                                           : begin<S8>;
}

}  // namespace

void add_warpgroup_products(Builders& builders) { builders["wgmma"] = build_wgmma; }

}  // namespace ptx_machine
