#include "cpu/runtime/memory.h"

#include "core/host_memory.h"
#include "core/poison.h"

namespace moe::cpu {

Status allocate(size_t bytes, bool poison, void** data) {
  MOE_TRY(HostMemory::of_process().allocate(bytes, kAlignment, data));
  if (poison) poison_memory(*data, bytes);
  return {};
}

void release(void* data) { HostMemory::of_process().release(data); }

Status Buffer::reserve(size_t bytes, bool poison) {
  if (bytes > bytes_) {
    clear();
    MOE_TRY(allocate(bytes, false, &data_));
    bytes_ = bytes;
  }
  if (poison) poison_memory(data_, bytes_);
  return {};
}

void Buffer::borrow(void* data, size_t bytes) {
  clear();
  data_ = data;
  bytes_ = bytes;
  owned_ = false;
}

void Buffer::clear() {
  if (owned_) release(data_);
  data_ = nullptr;
  bytes_ = 0;
  owned_ = true;
}

}  // namespace moe::cpu
