// Host memory for tensors and workspaces: aligned for vectors, on huge pages where large and the system gives them.
#pragma once

#include <cstddef>

#include "core/status.h"

namespace moe::cpu {

constexpr size_t kAlignment = 64;

Status allocate(size_t bytes, bool poison, void** data);
void release(void* data);

// Memory that one user grows and keeps between calls, or memory of another owner.
class Buffer {
 public:
  Buffer() = default;
  ~Buffer() { clear(); }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;

  // At least `bytes`; what was there is lost. With `poison`, filled with NaN patterns on every call.
  Status reserve(size_t bytes, bool poison);
  // Refers to memory of another owner from now on.
  void borrow(void* data, size_t bytes);
  char* data() const { return static_cast<char*>(data_); }
  size_t bytes() const { return bytes_; }

 private:
  void clear();

  void* data_ = nullptr;
  size_t bytes_ = 0;
  bool owned_ = true;
};

}  // namespace moe::cpu
