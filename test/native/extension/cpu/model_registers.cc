#include "extension/cpu/model_registers.h"

#include <memory>
#include <stdexcept>
#include <string>

namespace moe::cpu {

namespace {

[[noreturn]] void refuse(int tile, const std::string& message) {
  throw std::logic_error("tile " + std::to_string(tile) + ": " + message);
}

std::string shape_of(int rows, int bytes) { return std::to_string(rows) + " x " + std::to_string(bytes) + " bytes"; }

void check_equal(const char* what, int actual, int expected) {
  if (actual == expected) return;
  throw std::logic_error("tile product: expected " + std::string(what) + ", got " + std::to_string(actual) + " and " +
                         std::to_string(expected));
}

void check(const TileConfiguration& shapes) {
  if (shapes.palette > 1) {
    throw std::logic_error("tile palette: expected 0 or 1, got " + std::to_string(shapes.palette));
  }
  // The CPU begins there, and goes on after a page fault. Here nothing is interrupted.
  if (shapes.start_row != 0) {
    throw std::logic_error("tile start row: expected 0, got " + std::to_string(shapes.start_row));
  }
  for (const uint8_t byte : shapes.reserved) {
    if (byte != 0) throw std::logic_error("tile configuration: expected zeros in reserved bytes");
  }
  for (int tile = 0; tile < 16; ++tile) {
    const int rows = shapes.rows[tile], bytes = shapes.column_bytes[tile];
    const bool fits = rows <= kTileRegisterRows && bytes <= kTileRegisterBytes && (rows == 0) == (bytes == 0);
    if (tile < kTileRegisters && !fits) {
      refuse(tile, "expected 0 x 0 or 1 .. 16 rows x 1 .. 64 bytes, got " + shape_of(rows, bytes));
    }
    if (tile >= kTileRegisters && (rows != 0 || bytes != 0)) {
      refuse(tile, "expected 0 x 0, as there are eight tiles, got " + shape_of(rows, bytes));
    }
  }
}

}  // namespace

ModelRegisters& ModelRegisters::own() {
  // On the heap: there is little room for thread-local variables.
  static thread_local const std::unique_ptr<ModelRegisters> registers = std::make_unique<ModelRegisters>();
  return *registers;
}

void ModelRegisters::configure(const TileConfiguration& shapes) {
  const bool initial = shapes.palette == 0;
  if (!initial) check(shapes);
  for (int tile = 0; tile < kTileRegisters; ++tile) {
    registers_[tile] = {};
    if (initial) continue;
    registers_[tile].rows = shapes.rows[tile];
    registers_[tile].column_bytes = shapes.column_bytes[tile];
  }
}

ModelRegister& ModelRegisters::configured(int tile) {
  if (registers_[tile].rows == 0) refuse(tile, "used without a configuration");
  return registers_[tile];
}

ModelRegister& ModelRegisters::accessible(int tile) {
  ModelRegister& found = configured(tile);
  if (found.column_bytes % 4 != 0) {
    refuse(tile, "expected rows of whole 4 bytes, got " + shape_of(found.rows, found.column_bytes));
  }
  return found;
}

void ModelRegisters::check_product(int c, int a, int b) {
  const ModelRegister &sums = accessible(c), &left = accessible(a), &right = accessible(b);
  check_equal("as many rows of c as of a", sums.rows, left.rows);
  check_equal("as many bytes in rows of c as of b", sums.column_bytes, right.column_bytes);
  check_equal("as many groups of 4 bytes in rows of a as rows of b", left.column_bytes / 4, right.rows);
}

}  // namespace moe::cpu
