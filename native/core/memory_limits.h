// How much memory this process can still fill before Linux kills it: what the machine has, and what the control groups
// (containers, services) of the process leave.
#pragma once

#include <cstddef>
#include <string>

namespace moe {

// In bytes; SIZE_MAX if nothing limits it or the system does not tell. `root` is where proc and sys are, for tests.
size_t available_memory(const std::string& root = "");

}  // namespace moe
