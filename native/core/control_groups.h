// The control groups (containers, services) that limit what this process may use.
#pragma once

#include <string>
#include <vector>

namespace moe {

// Linux has two kinds of hierarchies, and may use both at once.
enum class GroupVersion { v1, v2 };

// The folders of the process's own group and of its parents, whose limits hold for it too, in the hierarchy that has
// this controller ("memory", "cpu"). Nothing if there is none. `root` is where proc and sys are, for tests.
std::vector<std::string> control_groups(const std::string& root, GroupVersion version, const char* controller);

}  // namespace moe
