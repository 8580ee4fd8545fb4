// Preloaded into Node, this makes allocations or thread starts of the addon fail. A call is the addon's if the
// innermost stack frame outside the C and C++ libraries is. Calls by others, such as Node and V8, never fail.
//
// A call's *site* is its stack as far as it lies in the addon and these libraries, as a number that is the same in
// every process. A kernel on `simt` repeats few sites thousands of times, and each has to fail once.
//
// The file is also a module for Node. arm(kind, how, every, known) makes the next call fail whose site is new: neither
// one of `known` nor one that failed in this process before. `how` says what follows it: "one", or "all" later calls
// fail too; with "none", no call fails. Only every `every`th site of a run may fail. disarm()
// ends this and returns whether a call failed, and how many sites there were. After printSites(), the site of a call
// that fails is printed at once, since the process may not survive.
#include <dlfcn.h>
#include <link.h>
#include <node_api.h>
#include <pthread.h>
#include <sys/mman.h>
#include <unistd.h>
#include <unwind.h>

#include <atomic>
#include <cerrno>
#include <cinttypes>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <string>

namespace {

struct Range {
  uintptr_t begin = 0, end = 0;
  bool has(uintptr_t address) const { return address >= begin && address < end; }
};

constexpr int kMostLibraries = 16;

std::atomic<bool> armed{false};
// A set of numbers other than 0 that threads add to without allocating.
class Set {
 public:
  // Whether it was not there.
  bool add(uint64_t number) {
    for (size_t i = number; i < number + kSize; ++i) {
      uint64_t there = 0;
      if (slots_[i % kSize].compare_exchange_strong(there, number)) return true;
      if (there == number) return false;
    }
    abort();
  }
  void clear() {
    for (std::atomic<uint64_t>& slot : slots_) slot = 0;
  }

 private:
  static constexpr size_t kSize = 1 << 14;
  std::atomic<uint64_t> slots_[kSize] = {};
};

enum class How { none, one, all };

bool threads = false;
How how = How::none;
uint64_t every = 1;
// Of this run, and of all that failed.
Set seen, failed;
std::atomic<uint64_t> sites{0};
std::atomic<uint64_t> failed_at{0};
bool prints_sites = false;

// The addon and the libraries of devices.
constexpr int kMostModules = 3;
Range modules[kMostModules];
int module_count = 0;
// The most bytes of thread-local variables that one of them has.
size_t thread_local_most = 0;
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
  const char* const slash = strrchr(name, '/');
  if (slash != nullptr && strncmp(slash, "/moe_kernels", strlen("/moe_kernels")) == 0 && module_count < kMostModules) {
    modules[module_count++] = code_of(*module);
    if (thread_local_bytes(*module) > thread_local_most) thread_local_most = thread_local_bytes(*module);
  }
  if (strstr(name, "ld-linux") != nullptr) loader = code_of(*module);
  const bool library = strstr(name, "libstdc++") != nullptr || strstr(name, "libc.so") != nullptr ||
                       strstr(name, "libgcc_s") != nullptr || strstr(name, "libm.so") != nullptr ||
                       strstr(name, "libpthread") != nullptr || strstr(name, "moe_faults") != nullptr;
  if (library && library_count < kMostLibraries) libraries[library_count++] = code_of(*module);
  return 0;
}

void find_modules() {
  library_count = module_count = 0;
  dl_iterate_phdr(visit_module, nullptr);
  // With CUDA's runtime in a library, the loader allocates its thread-local variables when a thread first touches them,
  // and ends the process if that fails (see CMakeLists.txt). These calls are then not ours.
  const bool cuda = thread_local_most > 4096;
  if (!cuda && loader.end != 0 && library_count < kMostLibraries) libraries[library_count++] = loader;
}

struct Stack {
  uint64_t site = 0;
  bool in_addon = false;
};

_Unwind_Reason_Code visit_frame(_Unwind_Context* context, void* found) {
  const uintptr_t address = _Unwind_GetIP(context);
  Stack& stack = *static_cast<Stack*>(found);
  const auto add = [&](const Range& module) {
    stack.site = (stack.site ^ (address - module.begin)) * 0x9e3779b97f4a7c15u;
    stack.site ^= stack.site >> 32;
    return _URC_NO_REASON;
  };
  for (int i = 0; i < module_count; ++i) {
    if (!modules[i].has(address)) continue;
    stack.in_addon = true;
    return add(modules[i]);
  }
  for (int i = 0; i < library_count; ++i) {
    if (libraries[i].has(address)) return add(libraries[i]);
  }
  return _URC_END_OF_STACK;
}

void print_failure(uint64_t site) {
  char line[32];
  const int length = snprintf(line, sizeof line, "fails %016" PRIx64 "\n", site);
  (void)!write(STDOUT_FILENO, line, static_cast<size_t>(length));
}

// Whether this call is to fail.
bool fails(bool starts_thread) {
  if (!armed.load(std::memory_order_acquire) || looking || starts_thread != threads) return false;
  looking = true;
  if (module_count == 0) find_modules();
  Stack stack;
  if (module_count != 0) _Unwind_Backtrace(visit_frame, &stack);
  looking = false;
  if (!stack.in_addon || stack.site == 0) return false;
  const bool fresh = seen.add(stack.site);
  const uint64_t index = fresh ? sites++ : 0;
  if (failed_at != 0) return how == How::all;
  if (how == How::none || !fresh || index % every != 0) return false;
  static std::mutex one_at_a_time;
  const std::lock_guard lock(one_at_a_time);
  if (failed_at != 0) return how == How::all;
  if (!failed.add(stack.site)) return false;
  failed_at = stack.site;
  if (prints_sites) print_failure(stack.site);
  return true;
}

// The function that this file replaces.
template <class Function>
Function* next(const char* name) {
  return reinterpret_cast<Function*>(dlsym(RTLD_NEXT, name));
}

std::string text_of(napi_env env, napi_value value) {
  char text[32] = "";
  napi_get_value_string_utf8(env, value, text, sizeof text, nullptr);
  return text;
}

napi_value arm(napi_env env, napi_callback_info info) {
  size_t count = 4;
  napi_value arguments[4];
  napi_get_cb_info(env, info, &count, arguments, nullptr, nullptr);
  threads = text_of(env, arguments[0]) == "threads";
  const std::string what = text_of(env, arguments[1]);
  how = what == "all" ? How::all : what == "one" ? How::one : How::none;
  uint32_t number = 0;
  napi_get_value_uint32(env, arguments[2], &number);
  every = number;
  napi_get_array_length(env, arguments[3], &number);
  for (uint32_t i = 0; i < number; ++i) {
    napi_value site;
    napi_get_element(env, arguments[3], i, &site);
    failed.add(std::stoull(text_of(env, site), nullptr, 16));
  }
  seen.clear();
  sites = 0;
  failed_at = 0;
  find_modules();
  armed.store(true, std::memory_order_release);
  return nullptr;
}

napi_value disarm(napi_env env, napi_callback_info) {
  armed.store(false, std::memory_order_release);
  napi_value result, value;
  napi_create_object(env, &result);
  napi_create_double(env, static_cast<double>(sites.load()), &value);
  napi_set_named_property(env, result, "sites", value);
  napi_get_boolean(env, failed_at.load() != 0, &value);
  napi_set_named_property(env, result, "failed", value);
  return result;
}

napi_value print_sites(napi_env, napi_callback_info) {
  prints_sites = true;
  return nullptr;
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
  define("printSites", print_sites);
  return exports;
}
