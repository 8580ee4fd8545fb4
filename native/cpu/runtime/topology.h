// Which part of the machine this process may use.
#pragma once

#include <cstddef>
#include <string>

namespace moe::cpu {

// CPUs within the affinity mask and container limits, at least 1.
int usable_cpus();
// The processor's name as it reports it.
std::string cpu_model();
// Bytes that can still be allocated within the machine's and the container's limits; SIZE_MAX if unknown.
size_t available_memory();

}  // namespace moe::cpu
