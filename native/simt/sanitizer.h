// Tells AddressSanitizer and ThreadSanitizer about contexts, shared memory and the ordering by CUDA's barriers. Without
// a sanitizer, all of it is empty.
//
// The runtime itself is compiled without -fsanitize=thread: it passes values between threads' stacks, which stands for
// an exchange in registers that orders no memory. MOE_SIMT_TSAN says that the kernels are compiled with it.
#pragma once

#include <cstddef>

#if defined(__SANITIZE_ADDRESS__)
#define MOE_SIMT_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define MOE_SIMT_ASAN 1
#endif
#endif

#if defined(MOE_SIMT_ASAN)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif
#if defined(MOE_SIMT_TSAN)
#include <sanitizer/tsan_interface.h>
extern "C" {
void __tsan_read_range(void* address, unsigned long size);
void __tsan_write_range(void* address, unsigned long size);
void AnnotateIgnoreReadsBegin(const char* file, int line);
void AnnotateIgnoreReadsEnd(const char* file, int line);
void AnnotateIgnoreWritesBegin(const char* file, int line);
void AnnotateIgnoreWritesEnd(const char* file, int line);
}
#endif

namespace moe::simt::machine::sanitizer {

#if defined(MOE_SIMT_TSAN)
inline void* current_fiber() { return __tsan_get_current_fiber(); }
inline void* create_fiber() { return __tsan_create_fiber(0); }
inline void destroy_fiber(void* fiber) { __tsan_destroy_fiber(fiber); }
// What precedes release(key) happens before what follows acquire(key).
inline void release(void* key) { __tsan_release(key); }
inline void acquire(void* key) { __tsan_acquire(key); }
// An access by the runtime on behalf of the running thread.
inline void reads(const void* address, size_t size) { __tsan_read_range(const_cast<void*>(address), size); }
inline void writes(void* address, size_t size) { __tsan_write_range(address, size); }
#else
inline void* current_fiber() { return nullptr; }
inline void* create_fiber() { return nullptr; }
inline void destroy_fiber(void*) {}
inline void release(void*) {}
inline void acquire(void*) {}
inline void reads(const void*, size_t) {}
inline void writes(void*, size_t) {}
#endif

// While it lives, the running thread's accesses are the runtime's own: allocations and library functions, which
// ThreadSanitizer sees although the runtime is compiled without it.
class Unseen {
 public:
#if defined(MOE_SIMT_TSAN)
  Unseen() {
    AnnotateIgnoreReadsBegin(__FILE__, __LINE__);
    AnnotateIgnoreWritesBegin(__FILE__, __LINE__);
  }
  ~Unseen() {
    AnnotateIgnoreWritesEnd(__FILE__, __LINE__);
    AnnotateIgnoreReadsEnd(__FILE__, __LINE__);
  }
#else
  Unseen() {}
  ~Unseen() {}
#endif
  Unseen(const Unseen&) = delete;
  Unseen& operator=(const Unseen&) = delete;
};

#if defined(MOE_SIMT_ASAN)
inline void poison(void* address, size_t size) { __asan_poison_memory_region(address, size); }
inline void unpoison(void* address, size_t size) { __asan_unpoison_memory_region(address, size); }
#else
inline void poison(void*, size_t) {}
inline void unpoison(void*, size_t) {}
#endif

// Call before a switch to the context with this stack and fiber. A null `fake_stack` means that the running context
// ends.
inline void start_switch([[maybe_unused]] void** fake_stack, [[maybe_unused]] const void* bottom,
                         [[maybe_unused]] size_t size, [[maybe_unused]] void* fiber) {
#if defined(MOE_SIMT_ASAN)
  __sanitizer_start_switch_fiber(fake_stack, bottom, size);
#endif
#if defined(MOE_SIMT_TSAN)
  constexpr unsigned kNoOrder = 1;
  __tsan_switch_to_fiber(fiber, kNoOrder);
#endif
}

// Call after a switch, on the new stack; reports where the old one is.
inline void finish_switch([[maybe_unused]] void* fake_stack, [[maybe_unused]] std::byte** old_bottom,
                          [[maybe_unused]] size_t* old_size) {
#if defined(MOE_SIMT_ASAN)
  const void* bottom = nullptr;
  size_t size = 0;
  __sanitizer_finish_switch_fiber(fake_stack, &bottom, &size);
  if (old_bottom != nullptr) *old_bottom = static_cast<std::byte*>(const_cast<void*>(bottom));
  if (old_size != nullptr) *old_size = size;
#endif
}

}  // namespace moe::simt::machine::sanitizer
