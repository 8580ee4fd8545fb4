// Mapped memory that was released soon after it was granted, as temporary tensors are: it waits for the next of its
// size. New pages would have to be cleared by the system first, which takes longer than to write them.
#pragma once

#include <chrono>
#include <cstddef>
#include <optional>
#include <vector>

namespace moe {

class KeptMemory {
 public:
  using Time = std::chrono::steady_clock::time_point;

  // What was granted for longer is not temporary, and what has waited for longer is not needed.
  static constexpr std::chrono::seconds kTemporary{30};

  struct Block {
    char* data;
    size_t length;
    bool filled;  // all of its pages are known to be the process's
    Time since;
  };

  // Keeps a block, unless it would be more than `most` bytes with the others.
  bool keep(const Block& block, size_t most);
  // A block of at least `length` bytes, with little to spare.
  std::optional<Block> take(size_t length);
  // Removes those that have waited for too long, to be unmapped.
  std::vector<Block> take_old(Time now);
  std::vector<Block> take_all();

  size_t bytes() const { return bytes_; }

 private:
  std::vector<Block> blocks_;
  size_t bytes_ = 0;
};

}  // namespace moe
