// Keeps a mapped file that becomes shorter from ending the process. Reading a page that the file no longer has, or that
// the disk cannot deliver, raises SIGBUS. Where the page is guarded, zeros take its place and that of all pages behind
// it, and the guard is torn; other faults go to whoever handled them before.
#pragma once

#include <cstddef>

namespace moe::cpu {

class MappingGuard {
 public:
  // Guards whole pages of a mapping that outlives the guard.
  MappingGuard(void* data, size_t bytes);
  ~MappingGuard();
  MappingGuard(const MappingGuard&) = delete;
  MappingGuard& operator=(const MappingGuard&) = delete;

  // Whether zeros were read in place of bytes of the file.
  bool torn() const;

 private:
  struct Range;
  friend struct FaultHandler;

  Range* range_;
};

}  // namespace moe::cpu
