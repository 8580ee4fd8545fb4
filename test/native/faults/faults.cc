// Preloaded into Node, this makes allocations or thread starts of the addon fail. A call is the addon's if the
// innermost stack frame outside the C and C++ libraries is. Calls by others, such as Node and V8, never fail.
//
// The file is also a module for Node. arm(kind, first, count) makes the calls first .. first + count - 1 of a kind
// fail; disarm() ends this and returns how many calls there were and where the first one failed.
#include <dlfcn.h>
#include <link.h>
#include <node_api.h>
#include <pthread.h>
#include <sys/mman.h>
#include <unwind.h>

#include <atomic>
#include <cerrno>
#include <cstdint>
#include <cstdlib>
#include <cstring>

namespace {

struct Range {
  uintptr_t begin = 0, end = 0;
  bool has(uintptr_t address) const { return address >= begin && address < end; }
};

constexpr int kMostLibraries = 16;

std::atomic<bool> armed{false};
bool threads = false;
uint64_t first = 0, last = 0;
std::atomic<uint64_t> calls{0};
std::atomic<uintptr_t> failed_at{0};

Range addon;
// Bytes of the addon's thread-local variables.
size_t addon_thread_local = 0;
Range loader;
Range libraries[kMostLibraries];
int library_count = 0;

thread_local bool looking __attribute__((tls_model("initial-exec"))) = false;

Range code_of(const dl_phdr_info& module) {
  Range range{UINTPTR_MAX, 0};
  for (int i = 0; i < module.dlpi_phnum; ++i) {
    const ElfW(Phdr)& segment = module.dlpi_phdr[i];
    if (segment.p_type != PT_LOAD) continue;
    const uintptr_t begin = module.dlpi_addr + segment.p_vaddr;
    if (begin < range.begin) range.begin = begin;
    if (begin + segment.p_memsz > range.end) range.end = begin + segment.p_memsz;
  }
  return range;
}

size_t thread_local_bytes(const dl_phdr_info& module) {
  for (int i = 0; i < module.dlpi_phnum; ++i) {
    if (module.dlpi_phdr[i].p_type == PT_TLS) return module.dlpi_phdr[i].p_memsz;
  }
  return 0;
}

int visit_module(dl_phdr_info* module, size_t, void*) {
  const char* name = module->dlpi_name;
  if (strstr(name, "moe_kernels.node") != nullptr) {
    addon = code_of(*module);
    addon_thread_local = thread_local_bytes(*module);
  }
  if (strstr(name, "ld-linux") != nullptr) loader = code_of(*module);
  const bool library = strstr(name, "libstdc++") != nullptr || strstr(name, "libc.so") != nullptr ||
                       strstr(name, "libgcc_s") != nullptr || strstr(name, "libm.so") != nullptr ||
                       strstr(name, "libpthread") != nullptr || strstr(name, "moe_faults") != nullptr;
  if (library && library_count < kMostLibraries) libraries[library_count++] = code_of(*module);
  return 0;
}

void find_modules() {
  library_count = 0;
  dl_iterate_phdr(visit_module, nullptr);
  // With CUDA's runtime in the addon, the loader allocates its thread-local variables when a thread first touches them,
  // and ends the process if that fails (see CMakeLists.txt). These calls are then not the addon's.
  const bool cuda = addon_thread_local > 4096;
  if (!cuda && loader.end != 0 && library_count < kMostLibraries) libraries[library_count++] = loader;
}

_Unwind_Reason_Code visit_frame(_Unwind_Context* context, void* found) {
  const uintptr_t address = _Unwind_GetIP(context);
  for (int i = 0; i < library_count; ++i) {
    if (libraries[i].has(address)) return _URC_NO_REASON;
  }
  if (addon.has(address)) *static_cast<uintptr_t*>(found) = address - addon.begin;
  return _URC_END_OF_STACK;
}

// Whether this call is to fail.
bool fails(bool starts_thread) {
  if (!armed.load(std::memory_order_acquire) || looking || starts_thread != threads) return false;
  looking = true;
  if (addon.end == 0) find_modules();
  uintptr_t caller = 0;
  if (addon.end != 0) _Unwind_Backtrace(visit_frame, &caller);
  looking = false;
  if (caller == 0) return false;
  const uint64_t call = ++calls;
  if (call < first || call > last) return false;
  uintptr_t none = 0;
  failed_at.compare_exchange_strong(none, caller);
  return true;
}

// The function that this file replaces.
template <class Function>
Function* next(const char* name) {
  return reinterpret_cast<Function*>(dlsym(RTLD_NEXT, name));
}

napi_value arm(napi_env env, napi_callback_info info) {
  size_t count = 3;
  napi_value arguments[3];
  napi_get_cb_info(env, info, &count, arguments, nullptr, nullptr);
  char kind[16] = "";
  napi_get_value_string_utf8(env, arguments[0], kind, sizeof kind, nullptr);
  double from = 0, number = 0;
  napi_get_value_double(env, arguments[1], &from);
  napi_get_value_double(env, arguments[2], &number);
  threads = strcmp(kind, "threads") == 0;
  first = static_cast<uint64_t>(from);
  last = first + static_cast<uint64_t>(number) - 1;
  calls = 0;
  failed_at = 0;
  addon = {};
  find_modules();
  armed.store(true, std::memory_order_release);
  return nullptr;
}

napi_value disarm(napi_env env, napi_callback_info) {
  armed.store(false, std::memory_order_release);
  napi_value result, value;
  napi_create_object(env, &result);
  napi_create_double(env, static_cast<double>(calls.load()), &value);
  napi_set_named_property(env, result, "calls", value);
  napi_create_double(env, static_cast<double>(failed_at.load()), &value);
  napi_set_named_property(env, result, "failedAt", value);
  return result;
}

}  // namespace

#define MOE_EXPORT extern "C" __attribute__((visibility("default")))

// glibc's own names for the functions below, because dlsym may allocate.
extern "C" {
void* __libc_malloc(size_t);
void* __libc_calloc(size_t, size_t);
void* __libc_realloc(void*, size_t);
void* __libc_memalign(size_t, size_t);
}

MOE_EXPORT void* malloc(size_t size) {
  if (!fails(false)) return __libc_malloc(size);
  errno = ENOMEM;
  return nullptr;
}

MOE_EXPORT void* calloc(size_t count, size_t size) {
  if (!fails(false)) return __libc_calloc(count, size);
  errno = ENOMEM;
  return nullptr;
}

MOE_EXPORT void* realloc(void* memory, size_t size) {
  if (!fails(false)) return __libc_realloc(memory, size);
  errno = ENOMEM;
  return nullptr;
}

MOE_EXPORT void* aligned_alloc(size_t alignment, size_t size) {
  if (!fails(false)) return __libc_memalign(alignment, size);
  errno = ENOMEM;
  return nullptr;
}

MOE_EXPORT void* memalign(size_t alignment, size_t size) { return aligned_alloc(alignment, size); }

MOE_EXPORT int posix_memalign(void** memory, size_t alignment, size_t size) {
  if (fails(false)) return ENOMEM;
  *memory = __libc_memalign(alignment, size);
  return *memory == nullptr ? ENOMEM : 0;
}

MOE_EXPORT void* mmap(void* address, size_t length, int protection, int flags, int file, off_t offset) {
  static const auto real = next<decltype(mmap)>("mmap");
  if (!fails(false)) return real(address, length, protection, flags, file, offset);
  errno = ENOMEM;
  return MAP_FAILED;
}

MOE_EXPORT int mprotect(void* address, size_t length, int protection) {
  static const auto real = next<decltype(mprotect)>("mprotect");
  if (!fails(false)) return real(address, length, protection);
  errno = ENOMEM;
  return -1;
}

MOE_EXPORT int pthread_create(pthread_t* thread, const pthread_attr_t* attributes, void* (*run)(void*),
                              void* argument) {
  static const auto real = next<decltype(pthread_create)>("pthread_create");
  if (fails(true)) return EAGAIN;
  return real(thread, attributes, run, argument);
}

NAPI_MODULE_INIT() {
  const auto define = [&](const char* name, napi_callback callback) {
    napi_value function;
    napi_create_function(env, name, NAPI_AUTO_LENGTH, callback, nullptr, &function);
    napi_set_named_property(env, exports, name, function);
  };
  define("arm", arm);
  define("disarm", disarm);
  return exports;
}
