// ldmatrix and stmatrix: 8x8 matrices of 16-bit elements between shared memory and the registers of a warp.
//
// Lane i gives the address of row i % 8 of matrix i / 8: 16 bytes, aligned to 16; x2 takes addresses from lanes 0-15
// only. Register j of lane l holds the elements (l / 4, 2 (l % 4)) and, in the upper half, (l / 4, 2 (l % 4) + 1) of
// matrix j, or of its transpose.
#pragma once

#include <cstdint>
#include <cstring>
#include <source_location>

#include "ptx/device.cuh"

namespace moe::simt {

namespace machine {

struct MatrixOperand {
  uint16_t row[8] = {};
  uint32_t registers[4] = {};
};

extern const Collective kLdmatrixX2, kLdmatrixX2Trans, kLdmatrixX4, kLdmatrixX4Trans;
extern const Collective kStmatrixX2, kStmatrixX4;

template <int kMatrices>
void load_matrices(const Collective& collective, const std::source_location& where, uint32_t (&registers)[kMatrices],
                   const void* shared_row) {
  MatrixOperand operand;
  if (lane() < 8 * kMatrices) {
    check_shared({collective.name, where}, shared_row, sizeof operand.row);
    memcpy(operand.row, shared_row, sizeof operand.row);
  }
  meet(collective, where, 0xffffffffu, &operand);
  for (int j = 0; j < kMatrices; ++j) registers[j] = operand.registers[j];
}

template <int kMatrices>
void store_matrices(const Collective& collective, const std::source_location& where, void* shared_row,
                    const uint32_t (&registers)[kMatrices]) {
  MatrixOperand operand;
  for (int j = 0; j < kMatrices; ++j) operand.registers[j] = registers[j];
  if (lane() < 8 * kMatrices) check_shared({collective.name, where}, shared_row, sizeof operand.row);
  meet(collective, where, 0xffffffffu, &operand);
  if (lane() >= 8 * kMatrices) return;
  memcpy(shared_row, operand.row, sizeof operand.row);
  note_write(shared_row);
}

}  // namespace machine

namespace ptx {

inline void ldmatrix_x4(uint32_t (&registers)[4], const void* shared_row,
                        std::source_location where = std::source_location::current()) {
  machine::load_matrices(machine::kLdmatrixX4, where, registers, shared_row);
}
inline void ldmatrix_x4_trans(uint32_t (&registers)[4], const void* shared_row,
                              std::source_location where = std::source_location::current()) {
  machine::load_matrices(machine::kLdmatrixX4Trans, where, registers, shared_row);
}
inline void ldmatrix_x2(uint32_t (&registers)[2], const void* shared_row,
                        std::source_location where = std::source_location::current()) {
  machine::load_matrices(machine::kLdmatrixX2, where, registers, shared_row);
}
inline void ldmatrix_x2_trans(uint32_t (&registers)[2], const void* shared_row,
                              std::source_location where = std::source_location::current()) {
  machine::load_matrices(machine::kLdmatrixX2Trans, where, registers, shared_row);
}

// sm_90
inline void stmatrix_x4(void* shared_row, const uint32_t (&registers)[4],
                        std::source_location where = std::source_location::current()) {
  machine::store_matrices(machine::kStmatrixX4, where, shared_row, registers);
}
inline void stmatrix_x2(void* shared_row, const uint32_t (&registers)[2],
                        std::source_location where = std::source_location::current()) {
  machine::store_matrices(machine::kStmatrixX2, where, shared_row, registers);
}

}  // namespace ptx

}  // namespace moe::simt
