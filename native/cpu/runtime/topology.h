// Which part of the machine this process may use.
#pragma once

#include <cstdint>
#include <string>

namespace moe::cpu {

// CPUs within the affinity mask and the limits of control groups, at least 1.
int usable_cpus();
// The processors' time that the control groups of this process leave it, in CPUs, rounded up; INT_MAX if none limits
// it. `root` is where proc and sys are, for tests.
int cpus_of_groups(const std::string& root = "");
// Bytes of a last-level cache of the processor; 0 if the system does not tell.
int64_t last_level_cache_bytes();
// The processor's name as it reports it, or "unknown". `root` is where proc is, for tests.
std::string cpu_model(const std::string& root = "");

}  // namespace moe::cpu
