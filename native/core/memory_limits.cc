#include "core/memory_limits.h"

#include <algorithm>
#include <cstdint>
#include <fstream>
#include <initializer_list>
#include <limits>
#include <optional>
#include <sstream>
#include <string_view>
#include <vector>

namespace moe {

namespace {

constexpr uint64_t kUnlimited = std::numeric_limits<uint64_t>::max();

// What the two versions of control groups call the same things. `reclaimable` is what the kernel takes back before it
// kills: file pages count as used until then.
struct Names {
  const char* limit;
  const char* used;
  std::vector<std::string_view> reclaimable;
};

const Names& names_of(bool version_1) {
  static const Names v1{"memory.limit_in_bytes", "memory.usage_in_bytes", {"total_active_file", "total_inactive_file"}};
  static const Names v2{"memory.max", "memory.current", {"active_file", "inactive_file", "slab_reclaimable"}};
  return version_1 ? v1 : v2;
}

// Where a hierarchy of groups is mounted: the folder `point` shows the group `group` and those below it.
struct Mount {
  std::string group, point;
};

bool has_word(const std::string& list, std::string_view word) {
  std::istringstream words(list);
  for (std::string each; std::getline(words, each, ',');) {
    if (each == word) return true;
  }
  return false;
}

// Mount points are written with octal escapes of spaces and the like.
std::string unescaped(const std::string& text) {
  std::string result;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\\' && i + 3 < text.size()) {
      result += static_cast<char>((text[i + 1] - '0') * 64 + (text[i + 2] - '0') * 8 + (text[i + 3] - '0'));
      i += 3;
    } else {
      result += text[i];
    }
  }
  return result;
}

std::optional<Mount> memory_mount(const std::string& root, bool version_1) {
  std::ifstream file(root + "/proc/self/mountinfo");
  for (std::string line; std::getline(file, line);) {
    const size_t dash = line.find(" - ");
    if (dash == std::string::npos) continue;
    std::istringstream left(line.substr(0, dash)), right(line.substr(dash + 3));
    std::string id, parent, device, type, source, options;
    Mount mount;
    left >> id >> parent >> device >> mount.group >> mount.point;
    right >> type >> source >> options;
    if (version_1 ? type != "cgroup" || !has_word(options, "memory") : type != "cgroup2") continue;
    return Mount{unescaped(mount.group), root + unescaped(mount.point)};
  }
  return std::nullopt;
}

// The process's group as the hierarchy names it: lines are "number:controllers:path", of version 2 "0::path".
std::optional<std::string> memory_group(const std::string& root, bool version_1) {
  std::ifstream file(root + "/proc/self/cgroup");
  for (std::string line; std::getline(file, line);) {
    const size_t first = line.find(':');
    const size_t second = first == std::string::npos ? first : line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    if (version_1 ? has_word(controllers, "memory") : controllers.empty()) return line.substr(second + 1);
  }
  return std::nullopt;
}

// The path from a mount to a group; empty if the group lies outside what the mount shows, as in some containers. The
// mount then is the container's own group.
std::string path_below(const Mount& mount, const std::string& group) {
  const std::string top = mount.group == "/" ? "" : mount.group;
  const bool below = group.compare(0, top.size(), top) == 0 && group.size() > top.size() && group[top.size()] == '/';
  if (!below || group.find("/..") != std::string::npos) return {};
  return group.substr(top.size());
}

// Nothing if there is no such file or it says "max".
std::optional<uint64_t> number_in(const std::string& path) {
  std::ifstream file(path);
  uint64_t number = 0;
  return file >> number ? std::optional(number) : std::nullopt;
}

uint64_t sum_in(const std::string& path, const std::vector<std::string_view>& names) {
  std::ifstream file(path);
  uint64_t sum = 0, value = 0;
  for (std::string name; file >> name >> value;) {
    if (std::find(names.begin(), names.end(), name) != names.end()) sum += value;
  }
  return sum;
}

uint64_t left_in_group(const std::string& folder, const Names& names) {
  const std::optional<uint64_t> limit = number_in(folder + "/" + names.limit);
  const std::optional<uint64_t> used = number_in(folder + "/" + names.used);
  if (!limit || !used) return kUnlimited;
  const uint64_t kept = *used - std::min(*used, sum_in(folder + "/memory.stat", names.reclaimable));
  return *limit - std::min(*limit, kept);
}

// The least that the process's own group and any of its parents leave.
uint64_t left_in_groups(const std::string& root, bool version_1) {
  const std::optional<Mount> mount = memory_mount(root, version_1);
  const std::optional<std::string> group = memory_group(root, version_1);
  if (!mount || !group) return kUnlimited;
  uint64_t left = kUnlimited;
  std::string path = path_below(*mount, *group);
  for (;;) {
    left = std::min(left, left_in_group(mount->point + path, names_of(version_1)));
    if (path.empty()) return left;
    path.erase(path.rfind('/'));
    // In version 1, a group may be set not to count what is below it.
    if (version_1 && number_in(mount->point + path + "/memory.use_hierarchy") == uint64_t{0}) return left;
  }
}

uint64_t left_in_machine(const std::string& root) {
  std::ifstream file(root + "/proc/meminfo");
  for (std::string line; std::getline(file, line);) {
    std::istringstream words(line);
    std::string name;
    uint64_t kilobytes = 0;
    if (words >> name >> kilobytes && name == "MemAvailable:") return kilobytes * 1024;
  }
  return kUnlimited;
}

}  // namespace

size_t available_memory(const std::string& root) {
  const uint64_t least = std::min({left_in_machine(root), left_in_groups(root, false), left_in_groups(root, true)});
  return static_cast<size_t>(std::min<uint64_t>(least, SIZE_MAX));
}

}  // namespace moe
