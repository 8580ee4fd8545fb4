#include "core/memory_limits.h"

#include <cstdint>

#include "check.h"
#include "system_root.h"

namespace {

using moe::available_memory;

class Root : public moe::test::SystemRoot {
 public:
  Root() {
    write("proc/meminfo", "MemTotal:       24684092 kB\nMemFree:        20010856 kB\nMemAvailable:   20000 kB\n");
  }
  // A group of version 2 with a limit of its own; `used` includes `file` bytes of the page cache.
  void group(const std::string& folder, const std::string& limit, int64_t used, int64_t file) const {
    write(folder + "/memory.max", limit + "\n");
    write(folder + "/memory.current", std::to_string(used) + "\n");
    write(folder + "/memory.stat", "anon 77\nactive_file " + std::to_string(file / 2) + "\ninactive_file " +
                                       std::to_string(file - file / 2) + "\nslab_reclaimable 0\nfile 99999\n");
  }
  void group_v1(const std::string& folder, const std::string& limit, int64_t used, int64_t file) const {
    write(folder + "/memory.limit_in_bytes", limit + "\n");
    write(folder + "/memory.usage_in_bytes", std::to_string(used) + "\n");
    write(folder + "/memory.use_hierarchy", "1\n");
    write(folder + "/memory.stat",
          "cache 5\nactive_file 5\ntotal_active_file 0\ntotal_inactive_file " + std::to_string(file) + "\n");
  }
  size_t available() const { return available_memory(path()); }
};

constexpr size_t kMachine = 20000 * 1024;
constexpr const char* kMount = "30 23 0:27 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";
constexpr const char* kMountV1 = "35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n";
constexpr const char* kNoLimitV1 = "9223372036854771712";

}  // namespace

MOE_TEST(memory_without_groups_is_what_the_machine_has) {
  Root root;
  MOE_CHECK_EQUAL(root.available(), kMachine);
  root.write("proc/meminfo", "MemFree: 1 kB\n");
  MOE_CHECK_EQUAL(root.available(), SIZE_MAX);
}

MOE_TEST(memory_is_limited_by_the_processs_own_group) {
  Root root;
  root.write("proc/self/mountinfo", kMount);
  root.write("proc/self/cgroup", "0::/user.slice/app.service\n");
  root.group("sys/fs/cgroup/user.slice/app.service", "1000000", 400000, 100000);
  MOE_CHECK_EQUAL(root.available(), 700000u);
  root.group("sys/fs/cgroup/user.slice/app.service", "1000000", 1400000, 100000);
  MOE_CHECK_EQUAL(root.available(), 0u);
  root.group("sys/fs/cgroup/user.slice/app.service", "max", 400000, 100000);
  MOE_CHECK_EQUAL(root.available(), kMachine);
}

MOE_TEST(memory_is_limited_by_every_parent_group) {
  Root root;
  root.write("proc/self/mountinfo", kMount);
  root.write("proc/self/cgroup", "0::/a/b/c\n");
  root.group("sys/fs/cgroup/a/b/c", "1000000", 0, 0);
  root.group("sys/fs/cgroup/a/b", "max", 0, 0);
  root.group("sys/fs/cgroup/a", "900000", 500000, 0);
  MOE_CHECK_EQUAL(root.available(), 400000u);
}

MOE_TEST(memory_of_a_container_is_limited_by_the_group_at_its_mount) {
  Root root;
  root.group("sys/fs/cgroup", "1000000", 250000, 0);
  root.write("proc/self/mountinfo", kMount);
  // With a namespace of its own, moved out of it, and without one.
  for (const char* group : {"0::/\n", "0::/../other\n"}) {
    root.write("proc/self/cgroup", group);
    MOE_CHECK_EQUAL(root.available(), 750000u);
  }
  root.write("proc/self/mountinfo", "30 23 0:27 /docker/12ab /sys/fs/cgroup ro - cgroup2 cgroup rw\n");
  root.write("proc/self/cgroup", "0::/docker/12ab\n");
  MOE_CHECK_EQUAL(root.available(), 750000u);
  root.write("proc/self/cgroup", "0::/docker/12ab/inner\n");
  root.group("sys/fs/cgroup/inner", "500000", 0, 0);
  MOE_CHECK_EQUAL(root.available(), 500000u);
  // Not below it, only named alike.
  root.write("proc/self/cgroup", "0::/docker/12abinner\n");
  MOE_CHECK_EQUAL(root.available(), 750000u);
}

MOE_TEST(memory_is_limited_by_groups_of_version_1) {
  Root root;
  root.write("proc/self/mountinfo",
             std::string("38 31 0:35 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n") + kMountV1);
  root.write("proc/self/cgroup", "9:name=systemd:/\n4:cpuset,memory:/jobs/7\n0::/\n");
  root.group_v1("sys/fs/cgroup/memory", kNoLimitV1, 1, 0);
  root.group_v1("sys/fs/cgroup/memory/jobs", "900000", 500000, 100000);
  root.group_v1("sys/fs/cgroup/memory/jobs/7", kNoLimitV1, 5, 0);
  MOE_CHECK_EQUAL(root.available(), 500000u);
  root.group_v1("sys/fs/cgroup/memory/jobs/7", "300000", 5, 5);
  MOE_CHECK_EQUAL(root.available(), 300000u);
  // A parent that does not count what is below it limits nothing.
  root.group_v1("sys/fs/cgroup/memory/jobs/7", "1000000", 5, 5);
  root.write("sys/fs/cgroup/memory/jobs/memory.use_hierarchy", "0\n");
  MOE_CHECK_EQUAL(root.available(), 1000000u);
}

MOE_TEST(memory_limits_of_both_versions_hold_side_by_side) {
  Root root;
  root.write("proc/self/mountinfo",
             std::string(kMountV1) + "41 31 0:38 / /sys/fs/c\\040group rw - cgroup2 cgroup2 rw\n");
  root.write("proc/self/cgroup", "4:memory:/\n0::/x:y\n");
  root.group_v1("sys/fs/cgroup/memory", "900000", 0, 0);
  MOE_CHECK_EQUAL(root.available(), 900000u);
  root.group("sys/fs/c group/x:y", "800000", 0, 0);
  MOE_CHECK_EQUAL(root.available(), 800000u);
}

MOE_TEST(damaged_files_of_the_system_limit_nothing) {
  Root root;
  root.write("proc/self/mountinfo", "- cgroup2\n\n30 23 - cgroup2 x\n");
  root.write("proc/self/cgroup", "0:\n::\n:\nmemory\n");
  MOE_CHECK_EQUAL(root.available(), kMachine);
}
