#include "simt/async_products.h"

#include <algorithm>
#include <bit>
#include <cstring>

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

}  // namespace

void AsyncProducts::start(unsigned warp) {
  warp_ = warp % kWarps;
  fenced_ = false;
  trace_ = 0;
  products_.clear();
  groups_.clear();
  sums_.clear();
}

// Only reads of operands are the kernel's own accesses; the rest is this machine's, by whichever lane came last.
void AsyncProducts::issue(const Call& call, const ProductElements& elements, void* const* operands, bool early) {
  {
    const sanitizer::Unseen unseen;
    const auto& first = *static_cast<const ProductOperand*>(operands[0]);
    for (unsigned lane = 1; lane < kLanes; ++lane) {
      const auto& other = *static_cast<const ProductOperand*>(operands[lane]);
      if (other.a != first.a || other.b != first.b || other.columns != first.columns) {
        fail(call, "the warp's lanes pass different operands");
      }
    }
    if (!fenced_) fail(call, "no wgmma_fence before the first product after a wait, or at all");
    trace_ = mix(trace_ ^ mix(first.a ^ mix(first.b ^ mix(first.columns))));
    products_.push_back({call, &elements, first.a, first.b, sums_of(call, operands), false});
  }
  if (early) multiply(products_.back());
}

void AsyncProducts::commit() {
  const sanitizer::Unseen unseen;
  groups_.push_back(products_.size());
}

// The sums that these registers hold, which are NaN from now on.
size_t AsyncProducts::sums_of(const Call& call, void* const* operands) {
  const unsigned columns = static_cast<ProductOperand*>(operands[0])->columns;
  std::array<float*, kLanes> registers;
  for (unsigned lane = 0; lane < kLanes; ++lane) registers[lane] = static_cast<ProductOperand*>(operands[lane])->sums;
  const auto same = [&](const Sums& sums) { return sums.registers == registers && sums.columns == columns; };
  const auto found = std::find_if(sums_.begin(), sums_.end(), same);
  Sums& sums = found == sums_.end() ? sums_.emplace_back(Sums{registers, columns, {}}) : *found;
  if (sums.products++ == 0) sums.values.resize(kRows * sums.columns);
  for (unsigned lane = 0; lane < kLanes; ++lane) {
    for_each_register(lane, sums.columns, [&](unsigned i, unsigned row, unsigned column) {
      float& value = sums.registers[lane][i];
      if (sums.products == 1) {
        sums.values[row * sums.columns + column] = value;
        value = std::bit_cast<float>(kNaN);
      } else if (std::bit_cast<uint32_t>(value) != kNaN) {
        fail(call, "the registers of the sums changed before the wait for products that are added to them");
      }
    });
  }
  return static_cast<size_t>(&sums - sums_.data());
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

// Products are exact, and are added one by one in order of K. Hardware does not say how it adds.
void AsyncProducts::multiply(Product& product) {
  Sums& target = sums_[product.sums];
  const unsigned columns = target.columns, elements = product.elements->count;
  std::byte bytes[kRowBytes];
  std::vector<float> row(elements), b(elements * columns);
  for (unsigned column = 0; column < columns; ++column) {
    read_row(product.call, product.b, column, bytes);
    product.elements->widen(bytes, row.data());
    for (unsigned k = 0; k < elements; ++k) b[k * columns + column] = row[k];
  }
  for (unsigned r = 0; r < kRows; ++r) {
    read_row(product.call, product.a, warp_ * kRows + r, bytes);
    product.elements->widen(bytes, row.data());
    float* sums = target.values.data() + r * columns;
    for (unsigned k = 0; k < elements; ++k) {
      for (unsigned column = 0; column < columns; ++column) sums[column] += row[k] * b[k * columns + column];
    }
  }
  product.done = true;
}

// PTX ISA, "Matrix descriptor" and "Strides": rows of 128 bytes, whose 16-byte chunks are exchanged within eight rows.
void AsyncProducts::read_row(const Call& call, uint64_t descriptor, unsigned row, std::byte* bytes) {
  const auto field = [&](unsigned first) { return static_cast<unsigned>(descriptor >> first & 0x3fffu) << 4; };
  const unsigned start = field(0), stride = field(32);
  if (descriptor >> 62 != 1 || (descriptor >> 49 & 7) != 0) {
    fail(call, "only descriptors of 128-byte swizzles without a base offset are simulated");
  }
  if (start / 128 % 8 != 0) fail(call, "a matrix must begin in the first of eight rows, at a multiple of 1024 bytes");
  for (unsigned chunk = 0; chunk < kRowBytes / 16; ++chunk) {
    const unsigned place = start + row / 8 * stride + row % 8 * 128 + chunk * 16;
    read_async(call, place ^ (place / 128 % 8 * 16), bytes + chunk * 16, 16);
  }
}

}  // namespace moe::simt::machine
