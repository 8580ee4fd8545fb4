// One thread's asynchronous copies from global to shared memory, in groups, as cp.async makes them.
#pragma once

#include <cstddef>
#include <vector>

#include "simt/call.h"

namespace moe::simt::machine {

class AsyncCopies {
 public:
  // Copies `source_bytes` and fills the rest of `bytes` (4, 8 or 16) with zeros. Addresses were checked.
  void issue(const Call& call, void* shared, const void* global, size_t bytes, size_t source_bytes, bool early);
  // Closes the current group.
  void commit() { groups_.push_back(copies_.size()); }
  // Completes all but the last `pending` groups.
  void wait(size_t pending);
  // Forgets what nobody waited for: nothing says that such a copy ever arrives.
  void clear();

 private:
  struct Copy {
    Call call;
    void* shared;
    const std::byte* global;
    size_t bytes;
    size_t source_bytes;
    bool early;
    std::byte source[16];  // as it was when the copy was issued
  };

  static void write(const Copy& copy);

  std::vector<Copy> copies_;    // not complete, oldest first
  std::vector<size_t> groups_;  // where each closed group ends in copies_
};

}  // namespace moe::simt::machine
