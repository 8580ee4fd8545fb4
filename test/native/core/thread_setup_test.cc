// A thread's name, and on Linux how the scheduler shares out its time.
#include "core/thread_setup.h"

#if defined(__linux__)

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/resource.h>

#include <cstdio>
#include <cstring>
#include <iterator>
#include <thread>

#include "check.h"

MOE_TEST(threads_have_a_name_and_keep_their_niceness) {
  std::thread([] {
    const int niceness = getpriority(PRIO_PROCESS, 0);
    moe::set_up_this_thread("moe-test");
    char name[16] = {};
    MOE_CHECK(pthread_getname_np(pthread_self(), name, sizeof(name)) == 0);
    MOE_CHECK(std::strcmp(name, "moe-test") == 0);
    MOE_CHECK(getpriority(PRIO_PROCESS, 0) == niceness);
  }).join();
}

namespace {

// Whether this thread's slice can be set here.
bool has_custom_slices() {
  moe::SchedulerAttributes attributes;
  if (!moe::read_scheduler_attributes(&attributes)) return false;
  attributes.runtime = 2'000'000;
  return moe::set_scheduler_attributes(attributes) && moe::read_scheduler_attributes(&attributes) &&
         attributes.runtime == 2'000'000;
}

}  // namespace

MOE_TEST(threads_ask_for_short_slices) {
  std::thread([] {
    if (prctl(PR_GET_SECCOMP) != 0 || !has_custom_slices()) {
      std::puts("skipped: custom slices need Linux 6.12 or later, and no filter of system calls");
      return;
    }
    moe::set_up_this_thread("moe-test");
    moe::SchedulerAttributes attributes;
    MOE_CHECK(moe::read_scheduler_attributes(&attributes));
    MOE_CHECK(attributes.runtime == 100'000);
  }).join();
}

MOE_TEST(threads_start_where_a_filter_ends_processes_that_set_slices) {
  std::thread([] {
    sock_filter rules[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0),  // the number of the system call
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_sched_setattr, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    const sock_fprog filter{std::size(rules), rules};
    // Both are this thread's alone.
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) != 0) {
      std::puts("skipped: this system has no filters of system calls");
      return;
    }
    moe::set_up_this_thread("moe-test");
    MOE_CHECK(prctl(PR_GET_SECCOMP) == SECCOMP_MODE_FILTER);
  }).join();
}

#endif
