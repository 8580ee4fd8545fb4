#include "simt/async_copy.h"

#include <cstring>

#include "simt/machine.h"
#include "simt/sanitizer.h"

namespace moe::simt::machine {

void AsyncCopies::issue(const Call& call, void* shared, const void* global, size_t bytes, size_t source_bytes,
                        bool early) {
  Copy& copy = copies_.emplace_back(Copy{call, shared, global, bytes, source_bytes, early, {}});
  sanitizer::reads(global, source_bytes);
  memcpy(copy.source, global, source_bytes);
  if (early) write(copy);
}

void AsyncCopies::wait(size_t pending) {
  if (groups_.size() <= pending) return;
  const size_t complete = groups_.size() - pending;
  const size_t end = groups_[complete - 1];
  for (size_t i = 0; i < end; ++i) {
    const Copy& copy = copies_[i];
    if (memcmp(copy.source, copy.global, copy.source_bytes) != 0) {
      fail(copy.call, "the source changed between the copy and the wait for it");
    }
    if (!copy.early) write(copy);
  }
  copies_.erase(copies_.begin(), copies_.begin() + static_cast<ptrdiff_t>(end));
  groups_.erase(groups_.begin(), groups_.begin() + static_cast<ptrdiff_t>(complete));
  for (size_t& group : groups_) group -= end;
}

void AsyncCopies::clear() {
  copies_.clear();
  groups_.clear();
}

// The bytes past source_bytes in `source` are zero from the start.
void AsyncCopies::write(const Copy& copy) {
  sanitizer::writes(copy.shared, copy.bytes);
  memcpy(copy.shared, copy.source, copy.bytes);
}

}  // namespace moe::simt::machine
