#include "cpu/runtime/topology.h"

#include <algorithm>
#include <climits>
#include <cmath>
#include <fstream>
#include <initializer_list>
#include <thread>

#include "core/control_groups.h"

#if defined(__linux__)
#include <sched.h>
#include <unistd.h>
#endif

namespace moe::cpu {

namespace {

// A group's share of the processors' time, in processors; 0 if it has no limit.
double share_of_group(const std::string& folder, GroupVersion version) {
  double quota = 0, period = 0;
  if (version == GroupVersion::v1) {
    std::ifstream(folder + "/cpu.cfs_quota_us") >> quota;
    std::ifstream(folder + "/cpu.cfs_period_us") >> period;
  } else {
    // "max" is not a number.
    std::ifstream(folder + "/cpu.max") >> quota >> period;
  }
  return quota > 0 && period > 0 ? quota / period : 0;
}

}  // namespace

int cpus_of_groups(const std::string& root) {
  double least = INT_MAX;
  for (const GroupVersion version : {GroupVersion::v1, GroupVersion::v2}) {
    for (const std::string& folder : control_groups(root, version, "cpu")) {
      if (const double share = share_of_group(folder, version); share > 0) least = std::min(least, std::ceil(share));
    }
  }
  return static_cast<int>(least);
}

int usable_cpus() {
  int count = static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
#if defined(__linux__)
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) == 0) count = CPU_COUNT(&set);
#endif
  return std::max(1, std::min(count, cpus_of_groups()));
}

int64_t last_level_cache_bytes() {
#if defined(_SC_LEVEL3_CACHE_SIZE)
  const long bytes = sysconf(_SC_LEVEL3_CACHE_SIZE);
  return bytes > 0 ? bytes : 0;
#else
  return 0;
#endif
}

}  // namespace moe::cpu
