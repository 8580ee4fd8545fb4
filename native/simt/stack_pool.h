// A pool of reusable stacks for contexts. Below each is a guard page.
#pragma once

#include <cstddef>
#include <vector>

#include "simt/context.h"

namespace moe::simt::machine {

class StackPool {
 public:
  StackPool() = default;
  ~StackPool();
  StackPool(const StackPool&) = delete;
  StackPool& operator=(const StackPool&) = delete;

  // Makes stacks 0 .. count - 1 available; false if out of memory.
  [[nodiscard]] bool reserve(size_t count);
  Stack operator[](size_t index) const { return stacks_[index]; }
  // Whether an address is on one of the stacks.
  bool holds(const void* address) const;

 private:
  std::vector<Stack> stacks_;
  std::vector<Stack> mappings_;
};

}  // namespace moe::simt::machine
