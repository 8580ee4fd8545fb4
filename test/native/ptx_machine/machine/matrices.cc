// The matrices of ldmatrix and stmatrix.
#include <cstring>
#include <stdexcept>

#include "addresses.h"
#include "lanes.h"

namespace ptx_machine {
namespace {

// Matrices of 8 rows of 16 bytes, between shared memory and the registers of a warp. PTX ISA, "ldmatrix" and
// "stmatrix".
template <bool kStores, bool kTransposes>
void matrices(Warp& warp, const Instruction& in, Mask) {
  constexpr unsigned kRows = 8;
  const size_t count = in.count - 1;
  const uint32_t* registers = in.operands + (kStores ? 1 : 0);
  const uint32_t* addresses = warp.at<uint32_t>(in.operands[kStores ? 0 : count]);
  for (size_t matrix = 0; matrix < count; ++matrix) {
    uint16_t elements[kRows][kRows];
    std::byte* rows[kRows];
    for (unsigned row = 0; row < kRows; ++row) {
      rows[row] = warp.shared(addresses[matrix * kRows + row] + static_cast<uint64_t>(in.immediate), 16);
      if constexpr (!kStores) std::memcpy(elements[row], rows[row], 16);
    }
    uint32_t* values = warp.at<uint32_t>(registers[matrix]);
    for (unsigned lane = 0; lane < kLanes; ++lane) {
      const unsigned row = lane / 4, column = lane % 4 * 2;
      const auto element = [&](unsigned i) -> uint16_t& {
        return kTransposes ? elements[column + i][row] : elements[row][column + i];
      };
      if constexpr (kStores) {
        element(0) = static_cast<uint16_t>(values[lane]);
        element(1) = static_cast<uint16_t>(values[lane] >> 16);
      } else {
        values[lane] = static_cast<uint32_t>(element(1)) << 16 | element(0);
      }
    }
    if constexpr (kStores) {
      for (unsigned row = 0; row < kRows; ++row) std::memcpy(rows[row], elements[row], 16);
    }
  }
}

template <bool kStores>
void build_matrices(Building& b) {
  b.words.expect({"sync", "aligned", "m8n8"});
  if (b.words.take_type() != Type::b16 || !take_shared(b)) b.words.unknown();
  const bool transposes = b.words.take("trans");
  const std::string count = b.words.take_one({"x1", "x2", "x4"});
  constexpr size_t kRegisters = kStores ? 1 : 0;
  if (std::to_string(b.argument(kRegisters).parts.size()) != count.substr(1)) {
    throw std::runtime_error("expected as many registers as " + count + " says");
  }
  if (kStores) b.add_address(0);
  b.add_parts(kRegisters, 32);
  if (!kStores) b.add_address(1);
  if (b.instruction.address_bits != 32) b.words.unknown();
  b.instruction.flow = Flow::together;
  b.instruction.step = transposes ? matrices<kStores, true> : matrices<kStores, false>;
}

}  // namespace

void add_matrices(Builders& builders) {
  builders["ldmatrix"] = build_matrices<false>;
  builders["stmatrix"] = build_matrices<true>;
}

}  // namespace ptx_machine
