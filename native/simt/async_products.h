// One warp's part of the products that its warpgroup, four consecutive warps, leaves to the tensor cores, as made by
// wgmma. Operands are read and sums are added some time between a product's issue and the wait for its group. Until
// that wait the registers of the sums are NaN.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "simt/call.h"

namespace moe::simt::machine {

// The elements of a row of A or B, which has 32 bytes.
struct ProductElements {
  unsigned count;
  void (*widen)(const std::byte* row, float* values);
};

// What a lane passes for D[64, columns] += A[64, K] B[columns, K]^T.
struct ProductOperand {
  float* sums;  // columns / 2
  unsigned columns;
  uint64_t a, b;  // descriptors
};

class AsyncProducts {
 public:
  static constexpr unsigned kWarps = 4;

  // The warp's place in its warpgroup.
  void start(unsigned warp);
  void fence() { fenced_ = true; }
  // The operands of the 32 lanes.
  void issue(const Call& call, const ProductElements& elements, void* const* operands, bool early);
  // Closes the current group.
  void commit();
  // Completes all but the last `pending` groups.
  void wait(size_t pending);
  // Fails if products have not been waited for.
  void exit() const;
  // The same for warps that have issued the same products.
  uint64_t trace() const { return trace_; }

 private:
  static constexpr unsigned kLanes = 32, kRows = 16, kRowBytes = 32;

  struct Sums {
    std::array<float*, kLanes> registers;
    unsigned columns;
    std::vector<float> values;  // [kRows][columns]
    unsigned products = 0;      // that have not been waited for
  };
  struct Product {
    Call call;
    const ProductElements* elements;
    uint64_t a, b;
    size_t sums;  // index into sums_
    bool done;
  };

  size_t sums_of(const Call& call, void* const* operands);
  void multiply(Product& product);
  // Brings the sums of a product that has been waited for to the registers, unless others are added to them.
  void finish(const Product& product);
  // Copies the 32 bytes of a row of a matrix in shared memory.
  static void read_row(const Call& call, uint64_t descriptor, unsigned row, std::byte* bytes);

  unsigned warp_ = 0;
  bool fenced_ = false;
  uint64_t trace_ = 0;
  std::vector<Product> products_;  // that have not been waited for, oldest first
  std::vector<size_t> groups_;     // where each closed group ends in products_
  std::vector<Sums> sums_;
};

}  // namespace moe::simt::machine
