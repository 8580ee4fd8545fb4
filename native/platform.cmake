# Where the native code builds. It uses GCC's builtins and attributes, and is tested with GCC and Clang on Linux x64, and
# with GCC on an emulated Linux arm64.
# This file can also be run alone, to check a given platform: cmake -DCMAKE_CXX_COMPILER_ID=... -P native/platform.cmake
option(MOE_UNTESTED_PLATFORM "Build where moe-kernels is not tested" OFF)

set(MOE_TESTED "GCC 11 and Clang 14, or later, on Linux x64 and arm64")
# As Node names it; empty if the code knows nothing of it.
if(CMAKE_SYSTEM_PROCESSOR MATCHES "^(x86_64|AMD64)$")
  set(MOE_PROCESSOR "x64")
elseif(CMAKE_SYSTEM_PROCESSOR MATCHES "^(aarch64|arm64)$")
  set(MOE_PROCESSOR "arm64")
else()
  set(MOE_PROCESSOR "")
endif()
set(MOE_PLATFORM "${CMAKE_CXX_COMPILER_ID} ${CMAKE_CXX_COMPILER_VERSION} on ${CMAKE_SYSTEM_NAME} ${CMAKE_SYSTEM_PROCESSOR}")
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  set(MOE_LEAST_COMPILER 11)
elseif(CMAKE_CXX_COMPILER_ID MATCHES "^(Apple)?Clang$")
  set(MOE_LEAST_COMPILER 14)
  if(CMAKE_CXX_COMPILER_ID STREQUAL "Clang" AND MOE_PROCESSOR STREQUAL "arm64")
    set(MOE_LEAST_COMPILER 16) # older ones have no dot products unless all code may use them
  endif()
else()
  message(FATAL_ERROR "moe-kernels: expected GCC or Clang, got ${MOE_PLATFORM}: the native code uses GCC's builtins. "
                      "It is tested with ${MOE_TESTED}.")
endif()
if(CMAKE_CXX_COMPILER_VERSION VERSION_LESS MOE_LEAST_COMPILER)
  message(FATAL_ERROR "moe-kernels: expected ${CMAKE_CXX_COMPILER_ID} ${MOE_LEAST_COMPILER} or later, got ${MOE_PLATFORM}: "
                      "set CXX to a newer compiler")
endif()
if(NOT MOE_UNTESTED_PLATFORM AND NOT (CMAKE_SYSTEM_NAME STREQUAL "Linux" AND MOE_PROCESSOR))
  message(FATAL_ERROR "moe-kernels: expected Linux x64 or arm64, got ${MOE_PLATFORM}: nothing is tested there. "
                      "To build all the same, configure with -DMOE_UNTESTED_PLATFORM=ON; with npm, set "
                      "MOE_KERNELS_CMAKE_OPTIONS=-DMOE_UNTESTED_PLATFORM=ON in the environment. Then run `npx moe-kernels verify`.")
endif()
