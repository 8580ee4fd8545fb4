#include "core/memory_limits.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <fstream>
#include <initializer_list>
#include <limits>
#include <optional>
#include <span>
#include <sstream>
#include <string_view>

#include "core/control_groups.h"

namespace moe {

namespace {

constexpr uint64_t kUnlimited = std::numeric_limits<uint64_t>::max();

// What the two versions of control groups call the same things. `reclaimable` is what the kernel takes back before it
// kills: file pages count as used until then.
struct Names {
  const char* limit;
  const char* used;
  std::array<std::string_view, 3> reclaimable;
};
constexpr Names kV1{"memory.limit_in_bytes", "memory.usage_in_bytes", {"total_active_file", "total_inactive_file", ""}};
constexpr Names kV2{"memory.max", "memory.current", {"active_file", "inactive_file", "slab_reclaimable"}};

// Nothing if there is no such file or it says "max".
std::optional<uint64_t> number_in(const std::string& path) {
  std::ifstream file(path);
  uint64_t number = 0;
  return file >> number ? std::optional(number) : std::nullopt;
}

uint64_t sum_in(const std::string& path, std::span<const std::string_view> names) {
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
uint64_t left_in_groups(const std::string& root, GroupVersion version) {
  const Names& names = version == GroupVersion::v1 ? kV1 : kV2;
  uint64_t left = kUnlimited;
  for (const std::string& folder : control_groups(root, version, "memory")) {
    left = std::min(left, left_in_group(folder, names));
  }
  return left;
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
  const uint64_t least =
      std::min({left_in_machine(root), left_in_groups(root, GroupVersion::v2), left_in_groups(root, GroupVersion::v1)});
  return static_cast<size_t>(std::min<uint64_t>(least, SIZE_MAX));
}

}  // namespace moe
