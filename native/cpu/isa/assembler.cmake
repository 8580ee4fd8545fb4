# Leaves out instruction sets that the assembler does not know: binutils 2.35, which RHEL 9 has, lacks some that its GCC knows.
include(CheckCXXSourceCompiles)

# Without it, isa.cc is told MOE_NO_<NAME>.
function(moe_needs_assembler name file target code)
  check_cxx_source_compiles("#include <immintrin.h>
    __attribute__((target(\"${target}\"))) ${code}
    int main() { return 0; }" MOE_ASSEMBLES_${name})
  if(MOE_ASSEMBLES_${name})
    return()
  endif()
  message(WARNING "moe-kernels: the instruction set ${file} is left out: the assembler does not know it. GNU binutils 2.36 "
                  "does; RHEL 9 has a newer one in gcc-toolset. Everything else works.")
  list(FILTER MOE_CPU_SOURCES EXCLUDE REGEX "native/cpu/isa/${file}\\.cc$")
  set(MOE_CPU_SOURCES ${MOE_CPU_SOURCES} PARENT_SCOPE)
  set_property(SOURCE native/cpu/isa/isa.cc APPEND PROPERTY COMPILE_DEFINITIONS MOE_NO_${name})
endfunction()

if(MOE_X86)
  moe_needs_assembler(AMX amx "amx-tile,amx-bf16,amx-int8" "void products() { _tile_dpbf16ps(0, 1, 2); _tile_dpbssd(0, 1, 2); }")
  moe_needs_assembler(AVX2_VNNI avx2_vnni "avx2,avxvnni"
                      "__m256i products(__m256i a, __m256i b, __m256i c) { return _mm256_dpbusd_avx_epi32(a, b, c); }")
endif()
