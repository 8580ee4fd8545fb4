#include "cpu/runtime/mapping_guard.h"

#include <signal.h>
#include <sys/mman.h>

#include <atomic>
#include <cerrno>
#include <cstdint>
#include <mutex>

#include "core/pages.h"

namespace moe::cpu {

// The handler reads the list of ranges at any moment, so that ranges are never removed from it, only used again.
struct MappingGuard::Range {
  std::atomic<uintptr_t> begin{0}, end{0};  // empty: free
  std::atomic<bool> torn{false};
  Range* next = nullptr;
};

struct FaultHandler {
  static void handle(int signal, siginfo_t* info, void* context) {
    const int kept = errno;
    const auto address = reinterpret_cast<uintptr_t>(info->si_addr);
    for (MappingGuard::Range* range = ranges.load(); range != nullptr; range = range->next) {
      // Both of the same guard, although another may get the range meanwhile.
      uintptr_t begin, end;
      do {
        begin = range->begin.load();
        end = range->end.load();
      } while (begin != range->begin.load());
      if (address < begin || address >= end) continue;
      range->torn.store(true);
      const uintptr_t first = address / page * page;
      void* zeros =
          mmap(reinterpret_cast<void*>(first), end - first, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
      errno = kept;
      if (zeros != MAP_FAILED) return;
      break;
    }
    if ((previous.sa_flags & SA_SIGINFO) != 0) return previous.sa_sigaction(signal, info, context);
    if (previous.sa_handler != SIG_DFL && previous.sa_handler != SIG_IGN) return previous.sa_handler(signal);
    // The fault is raised again after the return.
    struct sigaction by_default = {};
    by_default.sa_handler = SIG_DFL;
    sigaction(signal, &by_default, nullptr);
  }

  // With the lock held.
  static void install() {
    const struct sigaction current = installed();
    if (is_ours(current)) return;
    // Ours is behind it still. Another time in front, each of the two would hand faults to the other for ever.
    if (behind_another && has_function(current)) return;
    behind_another = false;
    page = page_size();
    struct sigaction action = {};
    action.sa_sigaction = handle;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK;
    sigemptyset(&action.sa_mask);
    sigaction(SIGBUS, &action, &previous);
  }

  // The code may be unloaded after the last guard. If another handler has been installed meanwhile, that one stays, and
  // hands faults on to ours.
  static void uninstall() {
    behind_another = !is_ours(installed());
    if (!behind_another) sigaction(SIGBUS, &previous, nullptr);
  }

  static struct sigaction installed() {
    struct sigaction action = {};
    sigaction(SIGBUS, nullptr, &action);
    return action;
  }
  static bool is_ours(const struct sigaction& action) {
    return (action.sa_flags & SA_SIGINFO) != 0 && action.sa_sigaction == handle;
  }
  static bool has_function(const struct sigaction& action) {
    return (action.sa_flags & SA_SIGINFO) != 0 || (action.sa_handler != SIG_DFL && action.sa_handler != SIG_IGN);
  }

  static inline std::mutex lock;
  static inline int64_t guards = 0;
  static inline std::atomic<MappingGuard::Range*> ranges{nullptr};
  static inline struct sigaction previous = {};
  static inline bool behind_another = false;  // since the last guard
  static inline uintptr_t page = 1;           // its size, which a signal handler must not ask for
};

MappingGuard::MappingGuard(void* data, size_t bytes) {
  const std::lock_guard<std::mutex> hold(FaultHandler::lock);
  Range* free = FaultHandler::ranges.load();
  while (free != nullptr && free->end.load() != 0) free = free->next;
  if (free == nullptr) {
    free = new Range;
    free->next = FaultHandler::ranges.load();
    FaultHandler::ranges.store(free);
  }
  range_ = free;
  range_->torn.store(false);
  range_->begin.store(reinterpret_cast<uintptr_t>(data));
  range_->end.store(reinterpret_cast<uintptr_t>(data) + bytes);
  if (FaultHandler::guards++ == 0) FaultHandler::install();
}

MappingGuard::~MappingGuard() {
  const std::lock_guard<std::mutex> hold(FaultHandler::lock);
  range_->end.store(0);
  range_->begin.store(0);
  if (--FaultHandler::guards == 0) FaultHandler::uninstall();
}

bool MappingGuard::torn() const { return range_->torn.load(); }

}  // namespace moe::cpu
