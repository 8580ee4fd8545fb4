#include "cpu/isa/tiles/permission.h"

#include <fstream>
#include <string>

#include "check.h"

namespace {

using namespace moe::cpu;

MOE_TEST(permission_for_tiles_is_granted_or_refused_for_a_reason) {
  const TilePermission& permission = tile_permission();
  MOE_CHECK_EQUAL(permission.granted, permission.reason.empty());
  MOE_CHECK_EQUAL(&tile_permission(), &permission);
}

#if defined(__linux__)
MOE_TEST(permission_for_tiles_needs_a_cpu_and_a_kernel_with_them) {
  std::string flags;
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with("flags")) flags = line + ' ';
  }
  bool all = true;
  for (const char* flag : {" amx_tile ", " amx_bf16 ", " amx_int8 "}) all &= flags.find(flag) != std::string::npos;
  if (!all) MOE_CHECK(!tile_permission().granted);
  if (all && !tile_permission().granted) MOE_CHECK(tile_permission().reason.starts_with("the kernel"));
}
#endif

}  // namespace
