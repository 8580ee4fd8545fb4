#include "ptx/ldmatrix.cuh"

namespace moe::simt::machine {

namespace {

MatrixOperand& at(void* const* operands, unsigned lane) { return *static_cast<MatrixOperand*>(operands[lane]); }

constexpr uint32_t pair(uint16_t lower, uint16_t upper) { return lower | static_cast<uint32_t>(upper) << 16; }

template <unsigned kMatrices, bool kTransposed>
void distribute(const Call&, uint32_t, void* const* operands) {
  for (unsigned lane = 0; lane < 32; ++lane) {
    const unsigned group = lane / 4, two = 2 * (lane % 4);
    for (unsigned j = 0; j < kMatrices; ++j) {
      const auto element = [&](unsigned row, unsigned column) { return at(operands, 8 * j + row).row[column]; };
      at(operands, lane).registers[j] = kTransposed ? pair(element(two, group), element(two + 1, group))
                                                    : pair(element(group, two), element(group, two + 1));
    }
  }
}

template <unsigned kMatrices>
void collect(const Call&, uint32_t, void* const* operands) {
  for (unsigned lane = 0; lane < 32; ++lane) {
    const unsigned group = lane / 4, two = 2 * (lane % 4);
    for (unsigned j = 0; j < kMatrices; ++j) {
      const uint32_t elements = at(operands, lane).registers[j];
      uint16_t* row = at(operands, 8 * j + group).row;
      row[two] = static_cast<uint16_t>(elements);
      row[two + 1] = static_cast<uint16_t>(elements >> 16);
    }
  }
}

}  // namespace

const Collective kLdmatrixX2{"ldmatrix_x2", true, false, distribute<2, false>};
const Collective kLdmatrixX2Trans{"ldmatrix_x2_trans", true, false, distribute<2, true>};
const Collective kLdmatrixX4{"ldmatrix_x4", true, false, distribute<4, false>};
const Collective kLdmatrixX4Trans{"ldmatrix_x4_trans", true, false, distribute<4, true>};
const Collective kStmatrixX2{"stmatrix_x2", true, false, collect<2>};
const Collective kStmatrixX4{"stmatrix_x4", true, false, collect<4>};

}  // namespace moe::simt::machine
