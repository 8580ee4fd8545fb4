#include "core/control_groups.h"

#include <fstream>
#include <optional>
#include <sstream>
#include <string_view>

namespace moe {

namespace {

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

std::optional<Mount> mount_of(const std::string& root, GroupVersion version, const char* controller) {
  std::ifstream file(root + "/proc/self/mountinfo");
  for (std::string line; std::getline(file, line);) {
    const size_t dash = line.find(" - ");
    if (dash == std::string::npos) continue;
    std::istringstream left(line.substr(0, dash)), right(line.substr(dash + 3));
    std::string id, parent, device, type, source, options;
    Mount mount;
    left >> id >> parent >> device >> mount.group >> mount.point;
    right >> type >> source >> options;
    const bool wanted =
        version == GroupVersion::v1 ? type == "cgroup" && has_word(options, controller) : type == "cgroup2";
    if (!wanted) continue;
    return Mount{unescaped(mount.group), root + unescaped(mount.point)};
  }
  return std::nullopt;
}

// The process's group as the hierarchy names it: lines are "number:controllers:path", of version 2 "0::path".
std::optional<std::string> group_of(const std::string& root, GroupVersion version, const char* controller) {
  std::ifstream file(root + "/proc/self/cgroup");
  for (std::string line; std::getline(file, line);) {
    const size_t first = line.find(':');
    const size_t second = first == std::string::npos ? first : line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    const bool wanted = version == GroupVersion::v1 ? has_word(controllers, controller) : controllers.empty();
    if (wanted) return line.substr(second + 1);
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

// Whether a group of version 1 was set not to count what is below it.
bool ends_hierarchy(const std::string& folder) {
  std::ifstream file(folder + "/memory.use_hierarchy");
  int counts = 1;
  return file >> counts && counts == 0;
}

}  // namespace

std::vector<std::string> control_groups(const std::string& root, GroupVersion version, const char* controller) {
  const std::optional<Mount> mount = mount_of(root, version, controller);
  const std::optional<std::string> group = group_of(root, version, controller);
  if (!mount || !group) return {};
  std::string path = path_below(*mount, *group);
  std::vector<std::string> folders{mount->point + path};
  while (!path.empty()) {
    path.erase(path.rfind('/'));
    const std::string parent = mount->point + path;
    if (version == GroupVersion::v1 && ends_hierarchy(parent)) break;
    folders.push_back(parent);
  }
  return folders;
}

}  // namespace moe
