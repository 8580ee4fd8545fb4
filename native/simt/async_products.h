// One warp's part of the products that its warpgroup, four consecutive warps, leaves to the tensor cores, as made by
// wgmma. Operands are read and sums are added some time between a product's issue and the wait for its group. Until
// that wait the registers of the sums are NaN. Those of A must not change from where they are kept, before the fence: a
// compiler may move what it need not keep behind it.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "simt/call.h"

namespace moe::simt::machine {

// D[16, columns] += A[16, K] B[columns, K]^T, by the type of the elements. Rows of A and B have 32 bytes.
using MultiplyAdd = void (*)(const std::byte* a, const std::byte* b, unsigned columns, uint32_t* d);

// What a lane passes for D[64, columns] += A[64, K] B[columns, K]^T.
struct ProductOperand {
  static constexpr unsigned kRegisters = 4;

  uint32_t* sums;  // the bits of columns / 2
  unsigned columns;
  const uint32_t* fragment;  // kRegisters of A; null: A has a descriptor
  uint64_t a, b;             // descriptors
  bool adds;                 // to what the sums are; else they are replaced
  bool panels;               // of columns along K; else A and B are rows
};

class AsyncProducts {
 public:
  static constexpr unsigned kWarps = 4;

  // The warp's place in its warpgroup.
  void start(unsigned warp);
  // A lane's registers of A, kRegisters of ProductOperand, are what products behind the next fence will take.
  void keep(unsigned lane, const uint32_t* registers);
  void fence();
  // The operands of the 32 lanes.
  void issue(const Call& call, MultiplyAdd multiply_add, void* const* operands, bool early);
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

  using Fragment = std::array<uint32_t, ProductOperand::kRegisters>;

  struct Sums {
    std::array<uint32_t*, kLanes> registers;
    unsigned columns;
    std::vector<uint32_t> values;  // bits [kRows][columns]
    unsigned products = 0;         // that have not been waited for
  };
  struct Product {
    Call call;
    MultiplyAdd multiply_add;
    uint64_t a, b;
    bool adds, panels;
    size_t sums;  // index into sums_
    // Where the lanes have their fragments of A, and what these are; null and empty: A has a descriptor.
    std::array<const uint32_t*, kLanes> registers = {};
    std::vector<Fragment> fragments = {};
    bool done = false;
  };

  // What a lane's registers were when they were kept, and whether there was a fence since.
  struct Kept {
    const uint32_t* registers;
    Fragment values;
    bool fenced;
  };

  size_t sums_of(const Call& call, void* const* operands);
  void read_fragments(Product& product, void* const* operands) const;
  void multiply(Product& product);
  // The products before `end` that are added to these sums and that have not been multiplied.
  void multiply_up_to(size_t end, size_t sums);
  // Brings the sums of a product that has been waited for to the registers, unless others are added to them.
  void finish(const Product& product);
  // Copies rows of a matrix in shared memory, 32 bytes each; `first` and `count` are multiples of 8.
  static void read_rows(const Product& product, uint64_t descriptor, unsigned first, unsigned count, std::byte* bytes);
  static void read_row(const Call& call, uint64_t descriptor, unsigned row, std::byte* bytes);
  static void read_panels(const Call& call, uint64_t descriptor, unsigned first, unsigned count, std::byte* bytes);

  unsigned warp_ = 0;
  bool fenced_ = false;
  uint64_t trace_ = 0;
  std::vector<Product> products_;  // that have not been waited for, oldest first
  std::vector<size_t> groups_;     // where each closed group ends in products_
  std::vector<Sums> sums_;
  std::array<std::vector<Kept>, kLanes> kept_;
};

}  // namespace moe::simt::machine
