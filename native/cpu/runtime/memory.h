// Memory for tensors and workspaces, aligned for vectors.
#pragma once

#include <cstddef>

#include "core/status.h"

namespace moe::cpu {

constexpr size_t kAlignment = 64;

Status allocate(size_t bytes, bool poison, void** data);
void release(void* data);

// Memory that one user grows and keeps between calls, or a reference to somebody else's.
class Buffer {
 public:
  Buffer() = default;
  ~Buffer() { clear(); }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;

  // Makes room for at least `bytes`; previous contents are lost. With `poison`, every call fills it with NaN patterns.
  Status reserve(size_t bytes, bool poison);
  // From now on refers to memory of another owner.
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
