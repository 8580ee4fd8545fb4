#include "simt/stack_pool.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>

#include "simt/sanitizer.h"

namespace moe::simt::machine {

namespace {

#if defined(MOE_SIMT_ASAN) || defined(MOE_SIMT_TSAN)
constexpr size_t kStackBytes = 512 << 10;
#else
constexpr size_t kStackBytes = 128 << 10;
#endif

// Threads at the same place in a kernel use the same offset in their stacks. Starting the stacks at different offsets
// within a page keeps them from sharing a few sets of the first-level cache.
constexpr size_t kColourBytes = 256;
constexpr size_t kColours = 16;

}  // namespace

StackPool::~StackPool() {
  for (const Stack& mapping : mappings_) munmap(mapping.bottom, mapping.size);
}

bool StackPool::reserve(size_t count) {
  if (count <= stacks_.size()) return true;
  const size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  const size_t stride = page + kStackBytes;
  const size_t more = count - stacks_.size();
  stacks_.reserve(count);
  mappings_.reserve(mappings_.size() + 1);
  void* memory = mmap(nullptr, more * stride, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return false;
  mappings_.push_back({static_cast<std::byte*>(memory), more * stride});
  for (size_t i = 0; i < more; ++i) {
    std::byte* guard = static_cast<std::byte*>(memory) + i * stride;
    if (mprotect(guard, page, PROT_NONE) != 0) {
      // The next call starts over.
      stacks_.resize(count - more);
      munmap(memory, more * stride);
      mappings_.pop_back();
      return false;
    }
    const size_t colour = stacks_.size() % kColours * kColourBytes;
    stacks_.push_back({guard + page, kStackBytes - colour});
  }
  return true;
}

bool StackPool::holds(const void* address) const {
  return std::any_of(mappings_.begin(), mappings_.end(), [address](const Stack& mapping) {
    return reinterpret_cast<uintptr_t>(address) - reinterpret_cast<uintptr_t>(mapping.bottom) < mapping.size;
  });
}

}  // namespace moe::simt::machine
