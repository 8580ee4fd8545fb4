#include "cpu/isa/tiles/permission.h"

#if defined(MOE_X86) && defined(__linux__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <initializer_list>
#include <system_error>
#endif

namespace moe::cpu {

namespace {

#if defined(MOE_X86) && defined(__linux__)
constexpr uint64_t bits(std::initializer_list<int> places) {
  uint64_t all = 0;
  for (const int place : places) all |= uint64_t{1} << place;
  return all;
}

// The registers that the kernel saves. Only where CPUID has OSXSAVE.
uint64_t saved_registers() {
  uint32_t low, high;
  asm volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return uint64_t{high} << 32 | low;
}

// What CPUID and XGETBV lack; empty if nothing. GCC 12 does not know AMX by name.
std::string missing() {
  uint32_t eax, ebx, ecx, edx;
  if (!__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) || (edx & bits({24})) == 0) return "the CPU has no AMX";
  if ((edx & bits({22})) == 0) return "the CPU has no AMX-BF16";
  if ((edx & bits({25})) == 0) return "the CPU has no AMX-INT8";
  if (!__get_cpuid(1, &eax, &ebx, &ecx, &edx) || (ecx & bits({27})) == 0) return "the kernel does not use XSAVE";
  const uint64_t saved = saved_registers();
  constexpr uint64_t kAvx512 = bits({1, 2, 5, 6, 7}), kTiles = bits({17, 18});
  if ((saved & kAvx512) != kAvx512) return "the kernel does not save AVX-512's registers";
  if ((saved & kTiles) != kTiles) return "the kernel does not save tile registers";
  return "";
}

TilePermission ask() {
  constexpr int kRequestPermission = 0x1023, kTileData = 18;  // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
  if (const std::string reason = missing(); !reason.empty()) return {.reason = reason};
  if (syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0) return {.granted = true, .reason = ""};
  // EINVAL: older than Linux 5.16. ENOSPC: a thread's alternate signal stack has no room for tiles.
  return {.reason = "the kernel refused tile registers: " + std::generic_category().message(errno)};
}
#elif defined(MOE_X86)
TilePermission ask() { return {.reason = "tile registers are used on Linux only"}; }
#else
TilePermission ask() { return {.reason = "the CPU is not x86"}; }
#endif

}  // namespace

const TilePermission& tile_permission() {
  // Never freed: threads compute while the process exits.
  static const TilePermission& permission = *new TilePermission(ask());
  return permission;
}

}  // namespace moe::cpu
