// What each of this package's threads does first.
#pragma once

#if defined(__linux__) || defined(__APPLE__)
#include <pthread.h>
#endif
#if defined(__linux__)
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdint>
#endif

namespace moe {

#if defined(__linux__)

// The kernel's struct sched_attr, version 0, which older C libraries do not declare; see sched_setattr(2).
struct SchedulerAttributes {
  uint32_t size = sizeof(SchedulerAttributes);
  uint32_t policy = 0;
  uint64_t flags = 0;
  int32_t nice = 0;
  uint32_t priority = 0;
  uint64_t runtime = 0;  // nanoseconds; of a thread without real-time policy, its slice
  uint64_t deadline = 0;
  uint64_t period = 0;
};

// The calling thread's. Both return whether the system allows it.
inline bool read_scheduler_attributes(SchedulerAttributes* attributes) {
  return syscall(SYS_sched_getattr, 0, attributes, sizeof(*attributes), 0) == 0;
}
inline bool set_scheduler_attributes(SchedulerAttributes attributes) {
  attributes.size = sizeof(attributes);
  return syscall(SYS_sched_setattr, 0, &attributes, 0) == 0;
}

// Asks for the calling thread's CPU time in short slices (since Linux 6.12; older kernels ignore it). Its share stays
// the same, but on a busy machine a thread that wakes up for a product of microseconds gets a CPU at once, not when
// another program's slice of milliseconds ends. Not under a filter of system calls (seccomp), which may end the
// process: that of a systemd service does so for `SystemCallFilter=~@resources`.
inline void ask_for_short_slices() {
  if (prctl(PR_GET_SECCOMP) != 0) return;
  constexpr uint32_t kNormal = 0, kBatch = 3;  // policies
  constexpr uint64_t kShortest = 100'000;
  SchedulerAttributes attributes;
  if (!read_scheduler_attributes(&attributes)) return;
  if (attributes.policy != kNormal && attributes.policy != kBatch) return;
  attributes.runtime = kShortest;
  set_scheduler_attributes(attributes);
}

#endif

// `name`: for debuggers, profilers and top; at most 15 characters.
inline void set_up_this_thread([[maybe_unused]] const char* name) {
#if defined(__linux__)
  pthread_setname_np(pthread_self(), name);
  ask_for_short_slices();
#elif defined(__APPLE__)
  pthread_setname_np(name);
#endif
}

}  // namespace moe
