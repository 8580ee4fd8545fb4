#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <iterator>

#include "cpu/runtime/topology.h"

#if defined(__APPLE__)
#include <sys/sysctl.h>

#include <cstddef>
#endif

namespace moe::cpu {

namespace {

// AArch64's Linux has numbers in place of a name. These are servers' processors; MIDR_EL1 has the numbers.
struct ArmPart {
  long implementer, part;
  const char* name;
};
constexpr ArmPart kArmParts[] = {
    {0x41, 0xd08, "Cortex-A72"},  {0x41, 0xd0b, "Cortex-A76"},  {0x41, 0xd0c, "Neoverse N1"},
    {0x41, 0xd40, "Neoverse V1"}, {0x41, 0xd49, "Neoverse N2"}, {0x41, 0xd4f, "Neoverse V2"},
    {0x41, 0xd84, "Neoverse V3"}, {0x41, 0xd8e, "Neoverse N3"}, {0xc0, 0xac3, "Ampere-1"},
    {0xc0, 0xac4, "Ampere-1A"},
};

std::string arm_model(const std::string& implementer, const std::string& part) {
  if (implementer.empty() || part.empty()) return "";
  const long maker = std::strtol(implementer.c_str(), nullptr, 16), number = std::strtol(part.c_str(), nullptr, 16);
  const auto known = std::ranges::find_if(
      kArmParts, [&](const ArmPart& one) { return one.implementer == maker && one.part == number; });
  if (known != std::end(kArmParts)) return known->name;
  return "AArch64, implementer " + implementer + ", part " + part;
}

// What follows the colon.
std::string value_of(const std::string& line) {
  const size_t value = line.find_first_not_of(": \t", line.find(':'));
  return value == std::string::npos ? "" : line.substr(value);
}

// What the system says where it has no such file.
std::string system_model() {
#if defined(__APPLE__)
  char name[256];
  size_t size = sizeof name;
  if (sysctlbyname("machdep.cpu.brand_string", name, &size, nullptr, 0) == 0) return name;
#endif
  return "unknown";
}

}  // namespace

std::string cpu_model(const std::string& root) {
  std::ifstream file(root + "/proc/cpuinfo");
  std::string line, implementer, part;
  while (std::getline(file, line)) {
    const std::string value = value_of(line);
    if (value.empty()) continue;
    if (line.starts_with("model name")) return value;
    if (line.starts_with("CPU implementer")) implementer = value;
    if (line.starts_with("CPU part")) part = value;
  }
  const std::string model = arm_model(implementer, part);
  return model.empty() ? system_model() : model;
}

}  // namespace moe::cpu
