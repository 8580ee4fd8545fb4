#include "cpu/runtime/topology.h"

#include <algorithm>
#include <cmath>
#include <fstream>
#include <sstream>
#include <thread>

#if defined(__linux__)
#include <sched.h>
#endif

namespace moe::cpu {

namespace {

// The first value of a cgroup v2 file; -1 if there is no such file or it says "max".
double cgroup_value(const char* name, double* second = nullptr) {
  std::ifstream file(std::string("/sys/fs/cgroup/") + name);
  std::string first;
  if (!(file >> first) || first == "max") return -1;
  if (second != nullptr) file >> *second;
  std::istringstream text(first);
  double value = -1;
  text >> value;
  return value;
}

}  // namespace

int usable_cpus() {
  int count = static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
#if defined(__linux__)
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) == 0) count = CPU_COUNT(&set);
  double period = 0;
  const double quota = cgroup_value("cpu.max", &period);
  if (quota > 0 && period > 0) count = std::min(count, static_cast<int>(std::ceil(quota / period)));
#endif
  return std::max(1, count);
}

std::string cpu_model() {
  std::ifstream file("/proc/cpuinfo");
  std::string line;
  while (std::getline(file, line)) {
    if (line.rfind("model name", 0) == 0) {
      const size_t colon = line.find(':');
      if (colon != std::string::npos) return line.substr(colon + 2);
    }
  }
  return "unknown";
}

}  // namespace moe::cpu
