// Host memory for tensors, weights and workspaces. Linux grants memory that it does not have and kills the process once
// it is filled, so what is granted but not yet filled is counted here.
#pragma once

#include <chrono>
#include <cstddef>
#include <functional>
#include <map>
#include <memory>
#include <mutex>

#include "core/kept_memory.h"
#include "core/status.h"

namespace moe {

// Its functions may be called from any thread.
class HostMemory {
 public:
  static HostMemory& of_process() noexcept;
  // `available` tells how many bytes the process can still fill, `now` the time.
  explicit HostMemory(std::function<size_t()> available,
                      std::function<KeptMemory::Time()> now = std::chrono::steady_clock::now)
      : available_(std::move(available)), now_(std::move(now)) {}
  ~HostMemory() { give_back_kept(); }
  HostMemory(const HostMemory&) = delete;
  HostMemory& operator=(const HostMemory&) = delete;

  // OUT_OF_MEMORY if it, filled with all that was granted before, would not fit into what is available.
  Status allocate(size_t bytes, size_t alignment, void** data);
  void release(void* data) noexcept;
  // Whether memory that somebody else is about to allocate, such as an array of JavaScript's, fits too.
  Status check(size_t bytes);
  // Gives back to the system what was released and waits to be granted again: see KeptMemory.
  void give_back_kept() noexcept;
  // Counts memory that check() found to fit as granted until what is returned is gone, by when it is filled.
  std::shared_ptr<void> count(void* data, size_t bytes);
  // Sets memory, or a part of it, to zero. The pages of large parts are given back to the system, which clears them
  // when they are next used.
  void zero(void* data, size_t bytes) noexcept;

 private:
  struct Block {
    size_t bytes;
    size_t length;  // of the pages that are mapped for it alone; 0: it is on pages of malloc's
    bool filled;    // all of its pages are known to be the process's
    KeptMemory::Time granted;

    bool mapped() const { return length > 0; }
  };

  Block forget(void* data) noexcept;
  bool keep(char* data, const Block& block) noexcept;
  Status check_fits(size_t bytes);
  size_t promised_bytes();
  bool empty_pages(char* begin, size_t length) noexcept;

  const std::function<size_t()> available_;
  const std::function<KeptMemory::Time()> now_;
  std::mutex mutex_;
  std::map<char*, Block> blocks_;
  size_t unfilled_ = 0;  // bytes of the blocks that are not known to be filled
  size_t unasked_ = 0;   // bytes granted since `available` was last asked
  KeptMemory kept_;
  size_t most_kept_ = 0;
};

// Memory of the host's, released with its last copy.
Status host_memory(size_t bytes, std::shared_ptr<void>* memory);

}  // namespace moe
