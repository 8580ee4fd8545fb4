// What of the machine this process may use.
#pragma once

#include <cstddef>
#include <string>

namespace moe::cpu {

// CPUs within affinity and container limits, at least 1.
int usable_cpus();
// Processor name as it reports itself.
std::string cpu_model();
// Bytes that can still be allocated within the machine's and the container's limits; SIZE_MAX where unknown.
size_t available_memory();

}  // namespace moe::cpu
