#include "cpu/runtime/topology.h"

#include <climits>

#include "check.h"
#include "system_root.h"

namespace {

using moe::cpu::cpu_model;
using moe::cpu::cpus_of_groups;
using moe::test::SystemRoot;

constexpr const char* kMount = "30 23 0:27 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";
constexpr const char* kMountV1 = "36 31 0:33 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n";

}  // namespace

MOE_TEST(processors_without_groups_are_not_limited) {
  SystemRoot root;
  MOE_CHECK_EQUAL(cpus_of_groups(root.path()), INT_MAX);
  root.write("proc/self/mountinfo", kMount);
  root.write("proc/self/cgroup", "0::/app\n");
  MOE_CHECK_EQUAL(cpus_of_groups(root.path()), INT_MAX);
  root.write("sys/fs/cgroup/app/cpu.max", "max 100000\n");
  MOE_CHECK_EQUAL(cpus_of_groups(root.path()), INT_MAX);
}

MOE_TEST(processors_are_limited_by_the_processs_own_group_and_its_parents) {
  SystemRoot root;
  root.write("proc/self/mountinfo", kMount);
  root.write("proc/self/cgroup", "0::/user.slice/app.service\n");
  root.write("sys/fs/cgroup/user.slice/app.service/cpu.max", "250000 100000\n");
  MOE_CHECK_EQUAL(cpus_of_groups(root.path()), 3);
  root.write("sys/fs/cgroup/user.slice/cpu.max", "20000 10000\n");
  MOE_CHECK_EQUAL(cpus_of_groups(root.path()), 2);
  root.write("sys/fs/cgroup/cpu.max", "50000 100000\n");
  MOE_CHECK_EQUAL(cpus_of_groups(root.path()), 1);
  root.write("proc/self/cgroup", "0::/other\n");
  root.write("sys/fs/cgroup/cpu.max", "max 100000\n");
  MOE_CHECK_EQUAL(cpus_of_groups(root.path()), INT_MAX);
}

MOE_TEST(processors_are_limited_by_groups_of_version_1) {
  SystemRoot root;
  root.write("proc/self/mountinfo", kMountV1);
  root.write("proc/self/cgroup", "4:cpu,cpuacct:/jobs/7\n0::/\n");
  const auto group = [&](const std::string& folder, const char* quota) {
    root.write("sys/fs/cgroup/cpu,cpuacct" + folder + "/cpu.cfs_quota_us", quota);
    root.write("sys/fs/cgroup/cpu,cpuacct" + folder + "/cpu.cfs_period_us", "100000\n");
  };
  group("", "-1\n");
  group("/jobs/7", "-1\n");
  MOE_CHECK_EQUAL(cpus_of_groups(root.path()), INT_MAX);
  group("/jobs", "400000\n");
  MOE_CHECK_EQUAL(cpus_of_groups(root.path()), 4);
}

MOE_TEST(the_processors_name_is_what_follows_the_colon) {
  SystemRoot root;
  MOE_CHECK_EQUAL(cpu_model(root.path()), "unknown");
  for (const char* nothing : {"model name\t:\n", "model name\t: \n", "model name\n", ""}) {
    root.write("proc/cpuinfo", nothing);
    MOE_CHECK_EQUAL(cpu_model(root.path()), "unknown");
  }
  root.write("proc/cpuinfo", "processor\t: 0\nmodel name\t: Some CPU: 64 cores\nmodel name\t: another\n");
  MOE_CHECK_EQUAL(cpu_model(root.path()), "Some CPU: 64 cores");
}

MOE_TEST(a_processor_without_a_name_has_that_of_its_numbers) {
  SystemRoot root;
  root.write("proc/cpuinfo", "processor\t: 0\nCPU implementer\t: 0x41\nCPU part\t: 0xd4f\nCPU revision\t: 1\n");
  MOE_CHECK_EQUAL(cpu_model(root.path()), "Neoverse V2");
  root.write("proc/cpuinfo", "CPU implementer\t: 0x99\nCPU part\t: 0x001\n");
  MOE_CHECK_EQUAL(cpu_model(root.path()), "AArch64, implementer 0x99, part 0x001");
  root.write("proc/cpuinfo", "CPU implementer\t: 0x41\nCPU part\t:\n");
  MOE_CHECK_EQUAL(cpu_model(root.path()), "unknown");
}
