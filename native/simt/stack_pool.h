// Stacks for contexts, kept and used again. Below each lies a page that traps.
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

  // Makes stacks 0 .. count - 1 available; false where memory is out.
  [[nodiscard]] bool reserve(size_t count);
  Stack operator[](size_t index) const { return stacks_[index]; }

 private:
  std::vector<Stack> stacks_;
  std::vector<Stack> mappings_;
};

}  // namespace moe::simt::machine
