#include "core/host_memory.h"

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <new>
#include <string>
#include <utility>

#include "core/memory_limits.h"
#include "core/pages.h"

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace moe {

namespace {

constexpr size_t kHugePage = size_t{2} << 20;
// What may be granted without reading the limits anew.
constexpr size_t kUnasked = size_t{64} << 20;
// From this size on, memory is mapped for itself alone, so that it can be given back or kept by itself.
constexpr size_t kMapped = size_t{2} << 20;
// The part of the available memory that is kept at most.
constexpr size_t kKeptPart = 8;

#if defined(__linux__)

constexpr bool kMaps = true;

void* map_memory(size_t length) {
  void* mapped = mmap(nullptr, length + kHugePage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (mapped == MAP_FAILED) return nullptr;
  char* const begin = static_cast<char*>(mapped);
  const size_t before = (kHugePage - reinterpret_cast<uintptr_t>(begin) % kHugePage) % kHugePage;
  if (before > 0) munmap(begin, before);
  munmap(begin + before + length, kHugePage - before);
  return begin + before;
}

void unmap_memory(void* data, size_t length) { munmap(data, length); }

// Gives mapped pages back to the system. They read as zeros from now on.
bool empty(char* begin, size_t length) { return madvise(begin, length, MADV_DONTNEED) == 0; }

// Bytes in pages that the system has not yet provided. Pages in swap count too: they need memory again.
size_t unfilled_bytes(void* data, size_t bytes) {
  constexpr size_t kAtOnce = 4096;
  unsigned char resident[kAtOnce];
  const Pages pages = pages_within(data, bytes);
  size_t missing = 0;
  for (size_t offset = 0; offset < pages.length; offset += kAtOnce * page_size()) {
    const size_t length = std::min(pages.length - offset, kAtOnce * page_size());
    // A sandbox may forbid it; nothing is then known to be missing.
    if (mincore(pages.begin + offset, length, resident) != 0) return 0;
    missing += static_cast<size_t>(
        std::count_if(resident, resident + length / page_size(), [](unsigned char page) { return (page & 1) == 0; }));
  }
  return missing * page_size();
}

#else

// available_memory() knows no limit here.
constexpr bool kMaps = false;
bool empty(char*, size_t) { return false; }
size_t unfilled_bytes(void*, size_t bytes) { return bytes; }

#endif

// Whole pages for `bytes` if memory of that size is mapped, else 0.
size_t mapped_length(size_t bytes) {
  if (!kMaps || bytes < kMapped || bytes > SIZE_MAX / 2) return 0;
  return up_to_page(bytes);
}

void* get_memory(size_t bytes, size_t alignment, [[maybe_unused]] size_t length) {
#if defined(__linux__)
  if (length > 0) return map_memory(length);
#endif
  void* data = nullptr;
  return posix_memalign(&data, alignment, bytes) == 0 ? data : nullptr;
}

void give_back(void* data, [[maybe_unused]] size_t length) {
#if defined(__linux__)
  if (length > 0) return unmap_memory(data, length);
#endif
  std::free(data);
}

void give_back(const std::vector<KeptMemory::Block>& blocks) {
  for (const KeptMemory::Block& block : blocks) give_back(block.data, block.length);
}

Status refusal(size_t bytes, const std::string& reason) {
  return {Code::out_of_memory, "cannot allocate " + std::to_string(bytes) + " bytes of host memory: " + reason +
                                   "; dispose of tensors and layers that are no longer needed"};
}

}  // namespace

HostMemory& HostMemory::of_process() noexcept {
  // Never destroyed: the collector still releases memory while the process exits. Takes no memory itself, as release()
  // may be what comes here first.
  alignas(HostMemory) static char place[sizeof(HostMemory)];
  static HostMemory& memory = *new (place) HostMemory([] { return available_memory(); });
  return memory;
}

Status HostMemory::allocate(size_t bytes, size_t alignment, void** data) {
  *data = nullptr;
  const std::lock_guard lock(mutex_);
  const size_t length = mapped_length(bytes);
  // The entry is made before the memory, which would leak if it could not be made.
  std::map<char*, Block> made;
  made.emplace(nullptr, Block{bytes, length, false, length > 0 ? now_() : KeptMemory::Time{}});
  auto entry = made.extract(made.begin());
  Block& block = entry.mapped();
  if (const auto kept = length > 0 ? kept_.take(length) : std::nullopt) {
    entry.key() = kept->data;
    block.length = kept->length;
    block.filled = kept->filled;
  } else {
    const bool asks = bytes >= kUnasked - unasked_;
    if (asks) MOE_TRY(check_fits(bytes));
    const bool huge = bytes >= kHugePage;
    entry.key() = static_cast<char*>(get_memory(bytes, huge ? kHugePage : alignment, length));
    if (entry.key() == nullptr) return refusal(bytes, "the system grants this process no more");
#if defined(__linux__)
    if (huge) madvise(entry.key(), bytes, MADV_HUGEPAGE);
#endif
    unasked_ = asks ? 0 : unasked_ + bytes;
  }
  *data = entry.key();
  if (!block.filled) unfilled_ += bytes;
  blocks_.insert(std::move(entry));
  return {};
}

Status HostMemory::check(size_t bytes) {
  if (bytes < kUnasked) return {};
  const std::lock_guard lock(mutex_);
  return check_fits(bytes);
}

std::shared_ptr<void> HostMemory::count(void* data, size_t bytes) {
  if (bytes < kUnasked) return nullptr;
  {
    const std::lock_guard lock(mutex_);
    blocks_.emplace(static_cast<char*>(data), Block{bytes, 0, false, {}});
    unfilled_ += bytes;
  }
  // If there is no memory for the pointer, it calls this too.
  return std::shared_ptr<void>(data, [this](void* counted) { forget(counted); });
}

Status HostMemory::check_fits(size_t bytes) {
  size_t available = available_();
  most_kept_ = available / kKeptPart;
  const auto fits = [&](size_t promised) { return promised <= available && bytes <= available - promised; };
  // Looking at pages takes time, and is rarely needed.
  if (fits(unfilled_)) return {};
  const size_t promised = promised_bytes();
  if (fits(promised)) return {};
  if (kept_.bytes() > 0) {
    give_back(kept_.take_all());
    available = available_();
    if (fits(promised)) return {};
  }
  return refusal(bytes, std::to_string(available) + " are available, of which " + std::to_string(promised) +
                            " are promised to tensors and layers that are not filled yet");
}

size_t HostMemory::promised_bytes() {
  size_t promised = 0;
  for (auto& [data, block] : blocks_) {
    if (block.filled) continue;
    const size_t missing = unfilled_bytes(data, block.bytes);
    block.filled = missing == 0;
    if (block.filled) unfilled_ -= block.bytes;
    promised += missing;
  }
  return promised;
}

void HostMemory::release(void* data) noexcept {
  if (data == nullptr) return;
  const Block block = forget(data);
  if (!keep(static_cast<char*>(data), block)) give_back(data, block.length);
}

HostMemory::Block HostMemory::forget(void* data) noexcept {
  const std::lock_guard lock(mutex_);
  const auto found = blocks_.find(static_cast<char*>(data));
  const Block block = found->second;
  blocks_.erase(found);
  if (!block.filled) unfilled_ -= block.bytes;
  unasked_ -= std::min(unasked_, block.bytes);
  return block;
}

bool HostMemory::keep(char* data, const Block& block) noexcept {
  std::vector<KeptMemory::Block> old;
  bool kept = false;
  try {
    const std::lock_guard lock(mutex_);
    const KeptMemory::Time now = now_();
    old = kept_.take_old(now);
    // Of the pages behind the block's bytes, nothing is known.
    const bool filled = block.filled && up_to_page(block.bytes) == block.length;
    kept = block.mapped() && now - block.granted <= KeptMemory::kTemporary &&
           kept_.keep({data, block.length, filled, now}, most_kept_);
  } catch (const std::bad_alloc&) {
    // It is given back instead.
  }
  give_back(old);
  return kept;
}

void HostMemory::give_back_kept() noexcept {
  const std::lock_guard lock(mutex_);
  give_back(kept_.take_all());
}

void HostMemory::zero(void* data, size_t bytes) noexcept {
  char* const begin = static_cast<char*>(data);
  const Pages pages = pages_within(data, bytes);
  if (bytes < kMapped || !empty_pages(pages.begin, pages.length)) {
    std::memset(begin, 0, bytes);
    return;
  }
  const size_t before = static_cast<size_t>(pages.begin - begin);
  std::memset(begin, 0, before);
  std::memset(pages.begin + pages.length, 0, bytes - before - pages.length);
}

bool HostMemory::empty_pages(char* begin, size_t length) noexcept {
  const std::lock_guard lock(mutex_);
  const auto after = blocks_.upper_bound(begin);
  if (after == blocks_.begin()) return false;
  auto& [start, block] = *std::prev(after);
  if (!block.mapped() || begin + length > start + block.length || !empty(begin, length)) return false;
  if (block.filled) unfilled_ += block.bytes;
  block.filled = false;
  return true;
}

Status host_memory(size_t bytes, std::shared_ptr<void>* memory) {
  void* data = nullptr;
  MOE_TRY(HostMemory::of_process().allocate(bytes, alignof(std::max_align_t), &data));
  *memory = std::shared_ptr<void>(data, [](void* released) { HostMemory::of_process().release(released); });
  return {};
}

}  // namespace moe
