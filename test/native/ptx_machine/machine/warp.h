// The threads of a warp and of a block.
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

#include "machine.h"
#include "program.h"

namespace ptx_machine {

struct Block;

// Copies of cp.async that have not been done yet.
struct Copy {
  std::byte* to;
  const std::byte* from;
  uint32_t bytes, filled;  // of which the first are copied and the others are zero
};

class Warp {
 public:
  Warp(Block& block, unsigned index);
  // At the kernel's first instruction, in the block that runs now.
  void begin();

  // The values of a register.
  template <class T>
  T* at(uint32_t place) {
    return reinterpret_cast<T*>(registers_.get() + place);
  }
  Mask& predicate(uint32_t place) { return *at<Mask>(place); }

  // The host's address of `bytes` in global or shared memory, or in either by a generic address. Aligned, and in memory
  // that the kernel may use; else a fault.
  std::byte* global(uint64_t address, size_t bytes) {
    if (address % bytes == 0 && address >= range_begin_ && address + bytes <= range_end_) {
      return reinterpret_cast<std::byte*>(address);
    }
    return find_global(address, bytes);
  }
  std::byte* shared(uint64_t address, size_t bytes);
  std::byte* generic(uint64_t address, size_t bytes) {
    return address >= kSharedWindow ? shared(address - kSharedWindow, bytes) : global(address, bytes);
  }
  std::byte* local(unsigned lane, uint64_t address, size_t bytes);
  const std::byte* parameters() const;
  size_t parameter_bytes() const;

  // Copies in the background. Waiting leaves the newest groups undone.
  void add_copy(const Copy& copy) { copies_.back().push_back(copy); }
  void commit_copies() { copies_.emplace_back(); }
  void wait_for_copies(size_t groups);

  // Runs until all threads have left, or wait for other warps, or for a while, so that others can run.
  enum class State { ready, waits, done };
  State run();
  void pass_barrier() { state_ = State::ready; }
  State state() const { return state_; }
  Mask live() const { return live_; }
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
  Group* next_group();
  bool step(Group& group);
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
  std::vector<std::vector<Copy>> copies_{1};
  uint64_t range_begin_ = 1, range_end_ = 0;
  uint64_t steps_ = 0;
  const Instruction* current_ = nullptr;
  Mask current_lanes_ = 0;
};

// Barriers of a block, for all of its threads or as many as they say.
struct Barrier {
  unsigned arrived = 0;  // threads
  unsigned expected = 0;
  std::vector<Warp*> waiting;
};

// Runs one block after the other.
struct Block {
  Block(const Kernel& kernel, const Launch& launch, std::span<const Range> memory);
  void run(std::array<unsigned, 3> index);

  // A warp comes to a barrier.
  void arrive(Warp& warp, unsigned barrier, unsigned threads, bool waits);
  void leave();

  const Kernel& kernel;
  const Launch& launch;
  std::span<const Range> memory;
  std::array<unsigned, 3> index{};
  std::vector<std::byte> shared;
  std::vector<Warp> warps;
  std::array<Barrier, 16> barriers;

 private:
  unsigned live_threads() const;
  void release(Barrier& barrier);
};

template <class Body>
void for_lanes(Mask mask, Body&& body) {
  for (; mask != 0; mask &= mask - 1) body(static_cast<unsigned>(std::countr_zero(mask)));
}

}  // namespace ptx_machine
