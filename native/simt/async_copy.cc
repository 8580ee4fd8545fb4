#include "simt/async_copy.h"

#include <algorithm>
#include <cstring>

#include "simt/machine.h"
#include "simt/sanitizer.h"

namespace moe::simt::machine {

void AsyncCopies::issue(const Call& call, void* shared, const void* global, size_t bytes, size_t source_bytes,
                        bool early) {
  Copy& copy =
      copies_.emplace_back(Copy{call, shared, static_cast<const std::byte*>(global), bytes, source_bytes, early, {}});
  sanitizer::reads(global, source_bytes);
  // Not memcpy: without bytes, the source may be null.
  std::copy_n(copy.global, source_bytes, copy.source);
  note_copy(shared);
  if (early) write(copy);
}

void AsyncCopies::wait(size_t pending) {
  if (groups_.size() <= pending) return;
  const size_t complete = groups_.size() - pending;
  const size_t end = groups_[complete - 1];
  for (size_t i = 0; i < end; ++i) {
    const Copy& copy = copies_[i];
    if (!std::equal(copy.source, copy.source + copy.source_bytes, copy.global)) {
      fail(copy.call, "the source changed between the copy and the wait for it");
    }
    if (!copy.early) write(copy);
    note_write(copy.shared);
  }
  copies_.erase(copies_.begin(), copies_.begin() + static_cast<ptrdiff_t>(end));
  groups_.erase(groups_.begin(), groups_.begin() + static_cast<ptrdiff_t>(complete));
  for (size_t& group : groups_) group -= end;
}

void AsyncCopies::clear() {
  copies_.clear();
  groups_.clear();
}

// Bytes of `source` after source_bytes are zero-initialised.
void AsyncCopies::write(const Copy& copy) {
  sanitizer::writes(copy.shared, copy.bytes);
  memcpy(copy.shared, copy.source, copy.bytes);
}

}  // namespace moe::simt::machine
