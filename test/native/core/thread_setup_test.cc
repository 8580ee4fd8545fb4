// A thread's name, and on Linux how the scheduler shares out its time.
#include "core/thread_setup.h"

#if defined(__linux__)

#include <sys/resource.h>

#include <cstdio>
#include <cstring>
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
    if (!has_custom_slices()) {
      std::puts("skipped: custom slices need Linux 6.12 or later, and a sandbox that allows sched_setattr");
      return;
    }
    moe::set_up_this_thread("moe-test");
    moe::SchedulerAttributes attributes;
    MOE_CHECK(moe::read_scheduler_attributes(&attributes));
    MOE_CHECK(attributes.runtime == 100'000);
  }).join();
}

#endif
