// cp.async: copies from global to shared memory that take effect some time between their issue and the wait for their
// group. Until then, shared memory keeps its content.
#pragma once

#include <source_location>

#include "ptx/device.cuh"

namespace moe::simt::ptx {

inline void cp_async_16(void* shared, const void* global,
                        std::source_location where = std::source_location::current()) {
  machine::copy_async({"cp_async_16", where}, shared, global, 16, 16);
}

// Zeros, and nothing is read, unless the source `exists`.
inline void cp_async_16_or_zeros(void* shared, const void* global, bool exists,
                                 std::source_location where = std::source_location::current()) {
  machine::copy_async({"cp_async_16_or_zeros", where}, shared, global, 16, exists ? 16 : 0);
}

// Copies the first `source_bytes` and fills the rest with zeros.
inline void cp_async_16_zfill(void* shared, const void* global, int source_bytes,
                              std::source_location where = std::source_location::current()) {
  machine::copy_async({"cp_async_16_zfill", where}, shared, global, 16, static_cast<size_t>(source_bytes));
}
inline void cp_async_8_zfill(void* shared, const void* global, int source_bytes,
                             std::source_location where = std::source_location::current()) {
  machine::copy_async({"cp_async_8_zfill", where}, shared, global, 8, static_cast<size_t>(source_bytes));
}
inline void cp_async_4_zfill(void* shared, const void* global, int source_bytes,
                             std::source_location where = std::source_location::current()) {
  machine::copy_async({"cp_async_4_zfill", where}, shared, global, 4, static_cast<size_t>(source_bytes));
}

// Closes the group of this thread's copies since the last commit.
inline void cp_async_commit() { machine::copy_async_commit(); }

// Waits until at most kPending of this thread's closed groups are incomplete. Other threads see the copies only after a
// barrier.
template <int kPending>
void cp_async_wait() {
  machine::copy_async_wait(kPending);
}

}  // namespace moe::simt::ptx
