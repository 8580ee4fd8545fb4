#include "simt/shared_memory.h"

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <new>

#include "simt/sanitizer.h"

namespace moe::simt::machine {

namespace {

constexpr size_t kAlignment = 1024;
// Between allocations, so that a small overrun hits poison instead of the neighbour.
constexpr size_t kRedZone = 128;
// Each region can hold all of a block's shared memory, plus red zones.
constexpr size_t kRegionBytes = 2 * kMaxSharedBytes;

constexpr int kNaNPattern = 0xff;
// The most bytes of a write that is noted.
constexpr size_t kWriteBytes = 16;

constexpr size_t round_up(size_t value, size_t unit) { return (value + unit - 1) / unit * unit; }

}  // namespace

void SharedMemory::Free::operator()(std::byte* memory) const {
  ::operator delete[](memory, std::align_val_t{kAlignment});
}

SharedMemory::SharedMemory()
    : memory_(static_cast<std::byte*>(::operator new[](2 * kRegionBytes, std::align_val_t{kAlignment}))),
      dynamic_(memory_.get()),
      fixed_(memory_.get() + kRegionBytes) {
  reset(memory_.get(), 2 * kRegionBytes);
}

SharedMemory::~SharedMemory() { sanitizer::unpoison(memory_.get(), 2 * kRegionBytes); }

// Only what the last block used: AddressSanitizer is slow on large ranges.
void SharedMemory::start(size_t dynamic_bytes) {
  reset(dynamic_, std::max(dynamic_bytes_, dynamic_bytes) + kRedZone);
  reset(fixed_, fixed_end_);
  dynamic_bytes_ = dynamic_bytes;
  last_writes_.assign((dynamic_bytes + kWriteBytes - 1) / kWriteBytes, {});
  noted_.assign(dynamic_bytes / kWriteBytes * kWriteBytes, std::byte{kNaNPattern});
  fixed_bytes_ = 0;
  fixed_end_ = 0;
  fixed_allocations_.clear();
  sanitizer::unpoison(dynamic_, dynamic_bytes);
}

void SharedMemory::reset(std::byte* memory, size_t bytes) {
  sanitizer::unpoison(memory, bytes);
  memset(memory, kNaNPattern, bytes);
  sanitizer::poison(memory, bytes);
}

std::byte* SharedMemory::fixed(const void* tag, size_t bytes, size_t alignment) {
  for (const Fixed& allocation : fixed_allocations_) {
    if (allocation.tag == tag) return fixed_ + allocation.offset;
  }
  const size_t offset = round_up(fixed_end_, alignment);
  const size_t fixed_bytes = round_up(fixed_bytes_, alignment) + bytes;
  // Dynamic memory follows static memory, at a multiple of its alignment.
  const size_t block_bytes = dynamic_bytes_ > 0 ? round_up(fixed_bytes, kAlignment) + dynamic_bytes_ : fixed_bytes;
  if (block_bytes > limit() || offset + bytes + kRedZone > kRegionBytes) return nullptr;
  fixed_allocations_.push_back({tag, offset, bytes});
  fixed_bytes_ = fixed_bytes;
  fixed_end_ = offset + bytes + kRedZone;
  sanitizer::unpoison(fixed_ + offset, bytes);
  return fixed_ + offset;
}

void SharedMemory::note_write(const void* address, LastWrite write, bool complete) {
  const size_t place = (reinterpret_cast<uintptr_t>(address) - reinterpret_cast<uintptr_t>(dynamic_)) / kWriteBytes;
  if (place >= last_writes_.size()) return;
  last_writes_[place] = write;
  const size_t first = place * kWriteBytes;
  const sanitizer::Unseen unseen;
  if (complete && first < noted_.size()) memcpy(&noted_[first], dynamic_ + first, kWriteBytes);
}

bool SharedMemory::as_noted(const std::byte* address) const {
  const size_t first = static_cast<size_t>(address - dynamic_);
  const sanitizer::Unseen unseen;
  return first + kWriteBytes > noted_.size() || memcmp(&noted_[first], address, kWriteBytes) == 0;
}

LastWrite SharedMemory::last_write(const void* address) const {
  const size_t place = (reinterpret_cast<uintptr_t>(address) - reinterpret_cast<uintptr_t>(dynamic_)) / kWriteBytes;
  return place < last_writes_.size() ? last_writes_[place] : LastWrite{};
}

bool SharedMemory::overrun() {
  const auto touched = [](std::byte* red_zone) {
    sanitizer::unpoison(red_zone, kRedZone);
    return std::any_of(red_zone, red_zone + kRedZone, [](std::byte b) { return b != std::byte{kNaNPattern}; });
  };
  if (touched(dynamic_ + dynamic_bytes_)) return true;
  for (const Fixed& allocation : fixed_allocations_) {
    if (touched(fixed_ + allocation.offset + allocation.bytes)) return true;
  }
  return false;
}

bool SharedMemory::holds(const void* address, size_t bytes) const {
  const uintptr_t begin = reinterpret_cast<uintptr_t>(address);
  const auto within = [&](const std::byte* start, size_t size) {
    const uintptr_t offset = begin - reinterpret_cast<uintptr_t>(start);
    return offset < size && size - offset >= bytes;
  };
  if (within(dynamic_, dynamic_bytes_)) return true;
  for (const Fixed& allocation : fixed_allocations_) {
    if (within(fixed_ + allocation.offset, allocation.bytes)) return true;
  }
  return false;
}

bool SharedMemory::near(const void* address) const {
  return reinterpret_cast<uintptr_t>(address) - reinterpret_cast<uintptr_t>(memory_.get()) < 2 * kRegionBytes;
}

}  // namespace moe::simt::machine
