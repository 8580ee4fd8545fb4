// What a GPU does in the background, until the kernel waits for it.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <map>
#include <set>
#include <span>
#include <utility>
#include <vector>

#include "program.h"

namespace ptx_machine {

// Work in groups. The last group is open: more may join it. The newest groups are not waited for.
template <class Work>
class Groups {
 public:
  void add(Work work) { groups_.back().push_back(std::move(work)); }
  void commit() { groups_.emplace_back(); }
  // Calls `body` for all but the newest groups that are complete.
  template <class Body>
  void wait(size_t newest, Body&& body) {
    while (groups_.size() > newest + 1) {
      for (const Work& work : groups_.front()) body(work);
      groups_.erase(groups_.begin());
    }
  }

 private:
  std::vector<std::vector<Work>> groups_{1};
};

// A copy of cp.async: some bytes from memory, then some zeros.
struct Copy {
  std::byte* to;
  const std::byte* from;
  uint32_t bytes, zeros;

  void run() const {
    if (bytes != 0) std::memcpy(to, from, bytes);
    std::memset(to + bytes, 0, zeros);
  }
};

// A product of wgmma.
struct Product {
  // Computes the warp's rows. `sums` are those of its registers, [register][lane].
  void (*multiply)(Warp&, const Product&, uint32_t* sums);
  const void* details;  // of its instruction
  std::span<const uint32_t> sums{};
  bool adds = false;                      // to the old sums
  const uint32_t* a_registers = nullptr;  // null: A is in shared memory
  uint64_t a = 0, b = 0;                  // descriptors
};

// The products that a warp has begun. While they run, nothing may use the registers of their sums, or change those of
// A. From the fence before a product to the product, nothing may change them either.
class RunningProducts {
 public:
  // wgmma.fence; `registers`: those of all products.
  void fence(Warp& warp, const std::set<uint32_t>& registers);
  // Those who waited may have used the sums, which takes a fence before the next product.
  void end_fence() { is_fenced_ = false; }
  void begin(Warp& warp, Product product);
  void commit() { groups_.commit(); }
  // A product reads its matrices only now, which is as late as it may.
  void wait(Warp& warp, size_t newest);
  bool none() const { return sums_.empty(); }

 private:
  struct Begun {
    Product product;
    std::vector<uint32_t> a;  // what the registers of A held
  };
  // Sums that products are adding to.
  struct Sums {
    std::span<const uint32_t> registers;
    std::vector<uint32_t> values;
    size_t products = 0;
  };

  Sums& hide(Warp& warp, std::span<const uint32_t> registers);
  void check_fenced(Warp& warp, std::span<const uint32_t> registers) const;
  void note_fenced(Warp& warp, uint32_t place);
  void finish(Warp& warp, const Begun& begun);

  Groups<Begun> groups_;
  std::vector<Sums> sums_;
  bool is_fenced_ = false;
  // What registers held at the last fence or, if they are sums, after the products since.
  std::map<uint32_t, std::array<uint32_t, kLanes>> fenced_;
};

}  // namespace ptx_machine
