// Pages of memory, as the system gives and takes it.
#pragma once

#include <unistd.h>

#include <cstddef>
#include <cstdint>

namespace moe {

inline size_t page_size() {
  static const auto size = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  return size;
}

// Addresses and sizes, rounded to whole pages.
inline uintptr_t down_to_page(uintptr_t value) { return value / page_size() * page_size(); }
inline uintptr_t up_to_page(uintptr_t value) { return down_to_page(value + page_size() - 1); }

// Whole pages.
struct Pages {
  char* begin;
  size_t length;
};

inline Pages pages_from(uintptr_t begin, uintptr_t end) {
  return {reinterpret_cast<char*>(begin), end > begin ? end - begin : 0};
}
// Those that lie within some memory.
inline Pages pages_within(const void* data, size_t bytes) {
  const auto address = reinterpret_cast<uintptr_t>(data);
  return pages_from(up_to_page(address), down_to_page(address + bytes));
}
// Those that some memory touches.
inline Pages pages_around(const void* data, size_t bytes) {
  const auto address = reinterpret_cast<uintptr_t>(data);
  return pages_from(down_to_page(address), up_to_page(address + bytes));
}

}  // namespace moe
