// The threads of a warp, and the warps of a block.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "background.h"
#include "machine.h"
#include "program.h"

namespace ptx_machine {

struct Block;

// Whether bytes from `address` on are all between the bounds. Addresses may be anything, such as those before null.
inline bool is_inside(uint64_t address, size_t bytes, uint64_t begin, uint64_t end) {
  return address >= begin && address <= end && bytes <= end - address;
}

class Warp {
 public:
  Warp(Block& block, unsigned index);
  // Goes to the kernel's first instruction, in the block that is to run.
  void begin();

  // The values of a register.
  template <class T>
  T* at(uint32_t place) {
    return reinterpret_cast<T*>(registers_.get() + place);
  }
  Mask& predicate(uint32_t place) { return *at<Mask>(place); }

  // The host's address of `bytes` in a kind of memory. A fault if it is not aligned or not the kernel's.
  std::byte* global(uint64_t address, size_t bytes) {
    if (address % bytes == 0 && is_inside(address, bytes, range_begin_, range_end_)) {
      return reinterpret_cast<std::byte*>(address);
    }
    return find_global(address, bytes);
  }
  std::byte* shared(uint64_t address, size_t bytes);
  std::byte* generic(uint64_t address, size_t bytes) {
    return address >= kSharedWindow ? shared(address - kSharedWindow, bytes) : global(address, bytes);
  }
  std::byte* local(unsigned lane, uint64_t address, size_t bytes);
  const std::byte* parameter(uint64_t address, size_t bytes) const;

  // Work in the background. The newest groups are not waited for.
  void add_copy(const Copy& copy);
  void commit_copies() { copies_.commit(); }
  void wait_for_copies(size_t newest);
  void fence_products();
  void begin_product(Product product);
  void commit_products() { products_.commit(); }
  void wait_for_products(size_t newest) {
    products_.wait(*this, newest);
    products_.end_fence();
  }

  // Runs until the warp's threads have left or wait for other warps, or for so many instructions.
  enum class State { ready, waits, done };
  State run(uint64_t instructions);
  void pass_barrier() { state_ = State::ready; }
  State state() const { return state_; }
  Mask live() const { return live_; }
  // The same for warps that have begun the same products; 0: none.
  uint64_t products_begun() const { return products_begun_; }
  unsigned index() const { return index_; }
  [[noreturn]] void fault(const std::string& what) const;

 private:
  // Lanes that are at the same instruction.
  struct Group {
    uint32_t at;
    Mask lanes;
    bool waits = false;  // for other lanes
  };

  std::byte* find_global(uint64_t address, size_t bytes);
  // A fault unless the access is aligned and between the bounds.
  void check_access(const char* memory, uint64_t address, size_t bytes, size_t begin, size_t end) const;
  Group* next_group();
  // False where another group may have to go on.
  bool step(Group& group);
  bool branch(Group& group, const Instruction& in, Mask lanes);
  bool leave(Group& group, Mask lanes);
  bool together(Group& group, const Instruction& in, Mask lanes);
  void merge();

  Block& block_;
  unsigned index_;
  Mask live_;
  State state_ = State::ready;
  std::vector<Group> groups_;
  struct Free {
    void operator()(std::byte* memory) const { std::free(memory); }
  };
  std::unique_ptr<std::byte[], Free> registers_;
  std::vector<std::byte> local_;
  Groups<Copy> copies_;
  RunningProducts products_;
  uint64_t products_begun_ = 0;
  // The memory that was found last.
  uint64_t range_begin_ = 1, range_end_ = 0;
  uint64_t steps_ = 0;
  const Instruction* current_ = nullptr;
  Mask current_lanes_ = 0;
};

struct Barrier {
  unsigned arrived = 0;   // threads
  unsigned expected = 0;  // 0: all threads of the block that have not left
  std::vector<Warp*> waiting;
};

// What the warps of a block share. It runs one block after the other.
struct Block {
  Block(const Kernel& kernel, const Launch& launch, std::span<const Range> memory);
  void run(std::array<unsigned, 3> index);

  // A warp comes to a barrier, of as many threads as it says; 0: of the whole block.
  void arrive(Warp& warp, unsigned barrier, unsigned threads, bool waits);
  // Threads have left.
  void leave();

  const Kernel& kernel;
  const Launch& launch;
  std::span<const Range> memory;
  const unsigned threads;
  std::array<unsigned, 3> index{};
  std::vector<std::byte> shared;
  std::vector<Warp> warps;
  std::array<Barrier, 16> barriers;

 private:
  unsigned live_threads() const;
  void release(Barrier& barrier);
  // At the end: products take all four warps of a warpgroup.
  void check_warpgroups() const;
};

// Calls `body` with the index of each lane of the mask.
template <class Body>
void for_lanes(Mask mask, Body&& body) {
  for (; mask != 0; mask &= mask - 1) body(static_cast<unsigned>(std::countr_zero(mask)));
}

}  // namespace ptx_machine
