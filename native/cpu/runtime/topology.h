// Which part of the machine this process may use.
#pragma once

#include <string>

namespace moe::cpu {

// CPUs within the affinity mask and container limits, at least 1.
int usable_cpus();
// The processor's name as it reports it.
std::string cpu_model();

}  // namespace moe::cpu
