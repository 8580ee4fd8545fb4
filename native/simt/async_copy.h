// One thread's asynchronous copies from global to shared memory, in groups, as made by cp.async.
#pragma once

#include <cstddef>
#include <vector>

#include "simt/call.h"

namespace moe::simt::machine {

class AsyncCopies {
 public:
  // Copies `source_bytes` and fills the rest of `bytes` (4, 8 or 16) with zeros. The caller has checked the addresses.
  void issue(const Call& call, void* shared, const void* global, size_t bytes, size_t source_bytes, bool early);
  // Closes the current group.
  void commit() { groups_.push_back(copies_.size()); }
  // Completes all but the last `pending` groups.
  void wait(size_t pending);
  // Drops copies that nobody waited for: nothing guarantees that they ever arrive.
  void clear();

 private:
  struct Copy {
    Call call;
    void* shared;
    const std::byte* global;
    size_t bytes;
    size_t source_bytes;
    bool early;
    std::byte source[16];  // content when the copy was issued
  };

  static void write(const Copy& copy);

  std::vector<Copy> copies_;    // incomplete, oldest first
  std::vector<size_t> groups_;  // where each closed group ends in copies_
};

}  // namespace moe::simt::machine
