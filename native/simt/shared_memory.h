// A block's shared memory. Every block finds it filled with NaN patterns; memory outside it is poisoned for
// AddressSanitizer.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

namespace moe::simt::machine {

// A block's limit on sm_90, dynamic and static together.
constexpr size_t kMaxSharedBytes = 227 << 10;
// The limit unless the launch asks for more, which it does by using more dynamic memory than this.
constexpr size_t kUnaskedSharedBytes = 48 << 10;

// The last write to some bytes: the thread, and its number for the write; 0: none.
struct LastWrite {
  uint32_t thread = 0;
  uint32_t number = 0;
};
constexpr uint32_t kIncompleteCopy = ~0u;

class SharedMemory {
 public:
  SharedMemory();
  ~SharedMemory();
  SharedMemory(const SharedMemory&) = delete;
  SharedMemory& operator=(const SharedMemory&) = delete;

  // Starts a new block; `dynamic_bytes` is at most kMaxSharedBytes.
  void start(size_t dynamic_bytes);
  // The dynamic region, aligned to 1024 bytes.
  std::byte* dynamic() const { return dynamic_; }
  size_t dynamic_bytes() const { return dynamic_bytes_; }
  // What the block may have of both.
  size_t limit() const { return dynamic_bytes_ > kUnaskedSharedBytes ? kMaxSharedBytes : kUnaskedSharedBytes; }
  // The static storage for `tag`; null if shared memory is full.
  std::byte* fixed(const void* tag, size_t bytes, size_t alignment);

  // Of bytes that are not across a multiple of 16. Only what is said of dynamic memory is kept. A `complete` write has
  // been made.
  void note_write(const void* address, LastWrite write, bool complete);
  LastWrite last_write(const void* address) const;
  // Whether the 16 bytes here are still as they were when the last complete write was noted, or at the start.
  bool as_noted(const std::byte* address) const;

  // Whether something was written just past the end of an allocation. Call at the end of a block.
  bool overrun();

  // Whether all of these bytes are in one allocation.
  bool holds(const void* address, size_t bytes) const;
  // Whether the address is anywhere in shared memory, allocated or not.
  bool near(const void* address) const;

 private:
  struct Fixed {
    const void* tag;
    size_t offset;
    size_t bytes;
  };
  struct Free {
    void operator()(std::byte* memory) const;
  };

  // Fills memory with NaN patterns and poisons it.
  static void reset(std::byte* memory, size_t bytes);

  std::unique_ptr<std::byte[], Free> memory_;
  std::byte* dynamic_;
  std::byte* fixed_;
  size_t dynamic_bytes_ = 0;
  size_t fixed_bytes_ = 0;  // allocated, aligned as on a GPU
  size_t fixed_end_ = 0;
  std::vector<Fixed> fixed_allocations_;
  std::vector<LastWrite> last_writes_;  // to each 16 bytes of dynamic memory
  std::vector<std::byte> noted_;        // what they were then
};

}  // namespace moe::simt::machine
