# Which instruction sets a build has. isa.cc is told MOE_NO_<NAME> of each that is left out.
include(CheckCXXSourceCompiles)

macro(moe_leave_out file)
  string(TOUPPER ${file} name)
  list(FILTER MOE_CPU_SOURCES EXCLUDE REGEX "native/cpu/isa/${file}\\.cc$")
  set_property(SOURCE native/cpu/isa/isa.cc APPEND PROPERTY COMPILE_DEFINITIONS MOE_NO_${name})
endmacro()

# Binutils 2.35, which RHEL 9 has, lacks some that its GCC knows.
macro(moe_needs_assembler file target code)
  check_cxx_source_compiles("#include <immintrin.h>
    __attribute__((target(\"${target}\"))) ${code}
    int main() { return 0; }" MOE_ASSEMBLES_${file})
  if(NOT MOE_ASSEMBLES_${file})
    message(WARNING "moe-kernels: the instruction set ${file} is left out: the assembler does not know it. GNU binutils 2.36 "
                    "does; RHEL 9 has a newer one in gcc-toolset. Everything else works.")
    moe_leave_out(${file})
  endif()
endmacro()

if(MOE_X86)
  set(wanted avx2 avx2_vnni avx512 avx512_vnni avx512_bf16 amx)
  if(MOE_INSTRUCTION_SETS STREQUAL "native" AND NOT CMAKE_CROSSCOMPILING)
    try_run(status compiled ${PROJECT_BINARY_DIR}/native_sets ${CMAKE_CURRENT_LIST_DIR}/native_sets.cc
      CMAKE_FLAGS -DINCLUDE_DIRECTORIES=${CMAKE_CURRENT_LIST_DIR}/../..
      COMPILE_DEFINITIONS -DMOE_X86
      CXX_STANDARD 20
      COMPILE_OUTPUT_VARIABLE problem RUN_OUTPUT_VARIABLE wanted)
    string(STRIP "${wanted}" wanted)
    if(NOT compiled OR NOT status EQUAL 0)
      message(FATAL_ERROR "moe-kernels: this processor's instruction sets were not found: ${problem}")
    endif()
  endif()
  foreach(file avx2 avx2_vnni avx512 avx512_vnni avx512_bf16 amx)
    if(NOT file IN_LIST wanted)
      moe_leave_out(${file})
    endif()
  endforeach()
  if(amx IN_LIST wanted)
    moe_needs_assembler(amx "amx-tile,amx-bf16,amx-int8" "void products() { _tile_dpbf16ps(0, 1, 2); _tile_dpbssd(0, 1, 2); }")
  endif()
  if(avx2_vnni IN_LIST wanted)
    moe_needs_assembler(avx2_vnni "avx2,avxvnni"
                        "__m256i products(__m256i a, __m256i b, __m256i c) { return _mm256_dpbusd_avx_epi32(a, b, c); }")
  endif()
endif()
