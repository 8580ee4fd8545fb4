// A program for builds: prints the instruction sets, as CMake's list, whose kernels the fastest one here is made of;
// see instruction_sets() in isa.cc.
#include <cstdio>

// One file, which is all that CMake 3.22 tries.
#include "cpu/isa/features.cc"
#include "cpu/isa/tiles/permission.cc"

int main() {
  using namespace moe::cpu;
  const auto has = [](Features features) { return lacking(features).empty(); };
  if (!has(kForAvx2)) return 0;
  if (!has(kForAvx512)) {
    std::puts(has(kForAvx2Vnni) ? "avx2;avx2_vnni" : "avx2");
  } else if (!has(kForAvx512Vnni)) {
    std::puts("avx512");
  } else if (tile_permission().granted) {
    std::puts("avx512;avx512_vnni;amx");
  } else {
    std::puts(has(kForAvx512Bf16) && !__builtin_cpu_is("intel") ? "avx512;avx512_vnni;avx512_bf16"
                                                                : "avx512;avx512_vnni");
  }
  return 0;
}
