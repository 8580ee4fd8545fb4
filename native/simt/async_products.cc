#include "simt/async_products.h"

#include <algorithm>
#include <cstring>
#include <string>

#include "simt/machine.h"
#include "simt/random.h"
#include "simt/sanitizer.h"

namespace moe::simt::machine {

namespace {

constexpr uint32_t kNaN = 0xffffffffu;

// Calls use(register, row, column) for each register of a lane's sums: PTX ISA, "wgmma.mma_async", fragment D.
template <class Use>
void for_each_register(unsigned lane, unsigned columns, Use&& use) {
  for (unsigned i = 0; i < columns / 2; ++i) use(i, lane / 4 + 8 * (i / 2 % 2), 8 * (i / 4) + 2 * (lane % 4) + i % 2);
}

// A descriptor's field of 14 bits, in units of 16 bytes.
unsigned field(uint64_t descriptor, unsigned first) {
  return static_cast<unsigned>(descriptor >> first & 0x3fffu) << 4;
}

}  // namespace

void AsyncProducts::start(unsigned warp) {
  warp_ = warp % kWarps;
  fenced_ = false;
  trace_ = 0;
  products_.clear();
  groups_.clear();
  sums_.clear();
  for (std::vector<Kept>& of_lane : kept_) of_lane.clear();
}

void AsyncProducts::keep(unsigned lane, const uint32_t* registers) {
  const sanitizer::Unseen unseen;
  std::vector<Kept>& kept = kept_[lane];
  auto found = std::find_if(kept.begin(), kept.end(), [&](const Kept& other) { return other.registers == registers; });
  if (found == kept.end()) found = kept.insert(found, Kept{registers, {}, false});
  std::copy_n(registers, ProductOperand::kRegisters, found->values.begin());
  found->fenced = false;
}

void AsyncProducts::fence() {
  const sanitizer::Unseen unseen;
  fenced_ = true;
  for (std::vector<Kept>& of_lane : kept_) {
    for (Kept& kept : of_lane) kept.fenced = true;
  }
}

// Only reads of operands are the kernel's own accesses; the rest is this machine's, by whichever lane came last.
void AsyncProducts::issue(const Call& call, MultiplyAdd multiply_add, void* const* operands, bool early) {
  {
    const sanitizer::Unseen unseen;
    const auto& first = *static_cast<const ProductOperand*>(operands[0]);
    for (unsigned lane = 1; lane < kLanes; ++lane) {
      const auto& other = *static_cast<const ProductOperand*>(operands[lane]);
      if (other.a != first.a || other.b != first.b || other.columns != first.columns || other.adds != first.adds ||
          other.panels != first.panels) {
        fail(call, "the warp's lanes pass different operands");
      }
    }
    if (!fenced_) fail(call, "no wgmma_fence before the first product after a wait, or at all");
    trace_ = mix(trace_ ^ mix(first.a ^ mix(first.b ^ mix(first.columns * 4 + first.panels * 2 + first.adds))));
    products_.push_back({.call = call,
                         .multiply_add = multiply_add,
                         .a = first.a,
                         .b = first.b,
                         .adds = first.adds,
                         .panels = first.panels,
                         .sums = sums_of(call, operands)});
    if (first.fragment != nullptr) read_fragments(products_.back(), operands);
  }
  if (early) multiply_up_to(products_.size(), products_.back().sums);
}

// Products that are added to the same sums are in order.
void AsyncProducts::multiply_up_to(size_t end, size_t sums) {
  for (size_t p = 0; p < end; ++p) {
    if (!products_[p].done && products_[p].sums == sums) multiply(products_[p]);
  }
}

void AsyncProducts::commit() {
  const sanitizer::Unseen unseen;
  groups_.push_back(products_.size());
}

// The sums that these registers hold, which are NaN from now on.
size_t AsyncProducts::sums_of(const Call& call, void* const* operands) {
  const unsigned columns = static_cast<ProductOperand*>(operands[0])->columns;
  std::array<uint32_t*, kLanes> registers;
  for (unsigned lane = 0; lane < kLanes; ++lane) registers[lane] = static_cast<ProductOperand*>(operands[lane])->sums;
  const auto same = [&](const Sums& sums) { return sums.registers == registers && sums.columns == columns; };
  const auto found = std::find_if(sums_.begin(), sums_.end(), same);
  Sums& sums = found == sums_.end() ? sums_.emplace_back(Sums{registers, columns, {}}) : *found;
  if (sums.products++ == 0) sums.values.resize(kRows * sums.columns);
  for (unsigned lane = 0; lane < kLanes; ++lane) {
    for_each_register(lane, sums.columns, [&](unsigned i, unsigned row, unsigned column) {
      uint32_t& value = sums.registers[lane][i];
      if (sums.products == 1) {
        sums.values[row * sums.columns + column] = value;
        value = kNaN;
      } else if (value != kNaN) {
        fail(call, "the registers of the sums changed before the wait for products that are added to them");
      }
    });
  }
  return static_cast<size_t>(&sums - sums_.data());
}

void AsyncProducts::read_fragments(Product& product, void* const* operands) const {
  product.fragments.resize(kLanes);
  for (unsigned lane = 0; lane < kLanes; ++lane) {
    const uint32_t* registers = static_cast<ProductOperand*>(operands[lane])->fragment;
    product.registers[lane] = registers;
    std::copy_n(registers, ProductOperand::kRegisters, product.fragments[lane].begin());
    const auto ordered = [&](const Kept& kept) {
      return kept.registers == registers && kept.fenced && kept.values == product.fragments[lane];
    };
    if (std::none_of(kept_[lane].begin(), kept_[lane].end(), ordered)) {
      fail(product.call, "the registers of A must be kept (wgmma_keep) as they are, before the wgmma_fence");
    }
  }
}

void AsyncProducts::wait(size_t pending) {
  fenced_ = false;
  if (groups_.size() <= pending) return;
  const size_t complete = groups_.size() - pending;
  const size_t end = groups_[complete - 1];
  for (size_t p = 0; p < end; ++p) {
    if (!products_[p].done) multiply(products_[p]);
  }
  const sanitizer::Unseen unseen;
  for (size_t p = 0; p < end; ++p) finish(products_[p]);
  products_.erase(products_.begin(), products_.begin() + static_cast<ptrdiff_t>(end));
  groups_.erase(groups_.begin(), groups_.begin() + static_cast<ptrdiff_t>(complete));
  for (size_t& group : groups_) group -= end;
}

void AsyncProducts::finish(const Product& product) {
  for (unsigned lane = 0; lane < product.fragments.size(); ++lane) {
    if (!std::equal(product.fragments[lane].begin(), product.fragments[lane].end(), product.registers[lane])) {
      fail(product.call, "the registers of A changed before the wait for this product");
    }
  }
  Sums& sums = sums_[product.sums];
  if (--sums.products > 0) return;
  for (unsigned lane = 0; lane < kLanes; ++lane) {
    for_each_register(lane, sums.columns, [&](unsigned i, unsigned row, unsigned column) {
      sums.registers[lane][i] = sums.values[row * sums.columns + column];
    });
  }
}

void AsyncProducts::exit() const {
  if (!products_.empty()) fail(products_.front().call, "a thread exits that has not waited for this product");
}

void AsyncProducts::multiply(Product& product) {
  Sums& target = sums_[product.sums];
  const unsigned columns = target.columns;
  if (!product.adds) std::fill(target.values.begin(), target.values.end(), 0u);
  std::byte a[kRows * kRowBytes];
  for (unsigned lane = 0; lane < product.fragments.size(); ++lane) {
    for (unsigned r = 0; r < ProductOperand::kRegisters; ++r) {
      const unsigned row = lane / 4 + 8 * (r % 2), byte = 4 * (lane % 4) + 16 * (r / 2);
      memcpy(a + row * kRowBytes + byte, &product.fragments[lane][r], sizeof(uint32_t));
    }
  }
  if (product.fragments.empty()) read_rows(product, product.a, warp_ * kRows, kRows, a);
  std::vector<std::byte> b(columns * kRowBytes);
  read_rows(product, product.b, 0, columns, b.data());
  product.multiply_add(a, b.data(), columns, target.values.data());
  product.done = true;
}

void AsyncProducts::read_rows(const Product& product, uint64_t descriptor, unsigned first, unsigned count,
                              std::byte* bytes) {
  if (product.panels) return read_panels(product.call, descriptor, first, count, bytes);
  for (unsigned row = 0; row < count; ++row) read_row(product.call, descriptor, first + row, bytes + row * kRowBytes);
}

// PTX ISA, "Matrix descriptor" and "Strides": rows of 128 or 64 bytes, whose 16-byte chunks are exchanged within eight
// rows.
void AsyncProducts::read_row(const Call& call, uint64_t descriptor, unsigned row, std::byte* bytes) {
  const unsigned start = field(descriptor, 0), stride = field(descriptor, 32),
                 swizzle = static_cast<unsigned>(descriptor >> 62);
  if ((swizzle != 1 && swizzle != 2) || (descriptor >> 49 & 7) != 0) {
    fail(call, "only descriptors of 128-byte and 64-byte swizzles without a base offset are simulated");
  }
  const unsigned row_bytes = 128 / swizzle;
  if (start / row_bytes % 8 != 0) {
    fail(call, "a matrix must begin in the first of eight rows, at a multiple of " + std::to_string(8 * row_bytes) +
                   " bytes");
  }
  for (unsigned chunk = 0; chunk < kRowBytes / 16; ++chunk) {
    const unsigned place = start + row / 8 * stride + row % 8 * row_bytes + chunk * 16;
    read_async(call, place ^ (place / 128 % (row_bytes / 16) * 16), bytes + chunk * 16, 16);
  }
}

// The same of panels, which have 64 columns of 16-bit elements: a row of 128 bytes for each k.
void AsyncProducts::read_panels(const Call& call, uint64_t descriptor, unsigned first, unsigned count,
                                std::byte* bytes) {
  constexpr unsigned kElement = 2, kChunk = 16 / kElement;
  const unsigned start = field(descriptor, 0), panel = field(descriptor, 16), stride = field(descriptor, 32);
  if (descriptor >> 62 != 1 || (descriptor >> 49 & 7) != 0) {
    fail(call, "only panels of 128-byte swizzles without a base offset are simulated");
  }
  if (start % 1024 != 0) fail(call, "a panel must begin at a multiple of 1024 bytes");
  for (unsigned column = first; column < first + count; column += kChunk) {
    for (unsigned k = 0; k < kRowBytes / kElement; ++k) {
      const unsigned place = start + column / 64 * panel + k / 8 * stride + k % 8 * 128 + column % 64 * kElement;
      std::byte chunk[16];
      read_async(call, place ^ (place / 128 % 8 * 16), chunk, sizeof chunk);
      for (unsigned i = 0; i < kChunk; ++i) {
        memcpy(bytes + (column - first + i) * kRowBytes + k * kElement, chunk + i * kElement, kElement);
      }
    }
  }
}

}  // namespace moe::simt::machine
