#include "cpu/runtime/memory.h"

#include <cstdint>
#include <cstdlib>
#include <cstring>

#include "cpu/runtime/topology.h"

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace moe::cpu {

namespace {

constexpr size_t kHugePage = size_t{2} << 20;
// Above this size, check what is available first: Linux hands out memory it does not have and kills the process when it
// is touched.
constexpr size_t kAskFirst = size_t{64} << 20;

void* aligned_memory(size_t bytes, size_t alignment) {
#if defined(_WIN32)
  return _aligned_malloc(bytes, alignment);
#else
  void* data = nullptr;
  return posix_memalign(&data, alignment, bytes) == 0 ? data : nullptr;
#endif
}

}  // namespace

Status allocate(size_t bytes, bool poison, void** data) {
  const size_t alignment = bytes >= kHugePage ? kHugePage : kAlignment;
  const bool fits = bytes < kAskFirst || bytes <= available_memory();
  *data = fits ? aligned_memory(bytes, alignment) : nullptr;
  if (*data == nullptr) {
    return {Code::out_of_memory, "cannot allocate " + std::to_string(bytes) +
                                     " bytes of host memory; dispose of tensors and layers that are no longer needed"};
  }
#if defined(__linux__)
  if (bytes >= kHugePage) madvise(*data, bytes, MADV_HUGEPAGE);
#endif
  if (poison) std::memset(*data, 0xff, bytes);
  return {};
}

void release(void* data) {
#if defined(_WIN32)
  _aligned_free(data);
#else
  std::free(data);
#endif
}

Status Buffer::reserve(size_t bytes, bool poison) {
  if (bytes > bytes_) {
    clear();
    MOE_TRY(allocate(bytes, false, &data_));
    bytes_ = bytes;
  }
  if (poison && bytes_ > 0) std::memset(data_, 0xff, bytes_);
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
