# Tries MOE_NVCC with the host compiler that is chosen here; sets MOE_CUDA_PROBLEM if that fails. Not CMake's check_language(),
# which drops a given host compiler, and keeps in the cache that a compiler failed, but not why.

# Left alone, nvcc takes the gcc on the PATH, which need not be what compiles the rest. It takes no compiler with arguments, such as
# "ccache g++".
if(NOT CMAKE_CUDA_HOST_COMPILER)
  if(NOT "$ENV{CUDAHOSTCXX}" STREQUAL "")
    set(CMAKE_CUDA_HOST_COMPILER "$ENV{CUDAHOSTCXX}")
  elseif("$ENV{NVCC_CCBIN}" STREQUAL "" AND CMAKE_CXX_COMPILER_ID MATCHES "^(GNU|Clang)$"
         AND "${CMAKE_CXX_COMPILER_ARG1}" STREQUAL "")
    set(CMAKE_CUDA_HOST_COMPILER "${CMAKE_CXX_COMPILER}")
  endif()
endif()
set(settings "")
foreach(variable CMAKE_CUDA_HOST_COMPILER CMAKE_CUDA_FLAGS CMAKE_CXX_COMPILER CMAKE_MAKE_PROGRAM CMAKE_TOOLCHAIN_FILE
                 CUDAToolkit_ROOT)
  if(NOT "${${variable}}" STREQUAL "")
    list(APPEND settings "-D${variable}=${${variable}}")
  endif()
endforeach()
# What was found to work is not tried again. What failed is: the cause may be gone.
string(SHA256 checked "${CMAKE_VERSION} ${MOE_NVCC} ${MOE_NVCC_VERSION} ${MOE_CUDA_ARCHITECTURES} ${settings}")
if("${checked}" STREQUAL "${MOE_CUDA_CHECKED}")
  return()
endif()

message(STATUS "Checking whether ${MOE_NVCC} ${MOE_NVCC_VERSION} builds what the cuda device needs")
set(folder "${CMAKE_CURRENT_BINARY_DIR}/CMakeFiles/check_nvcc")
file(REMOVE_RECURSE "${folder}")
file(MAKE_DIRECTORY "${folder}")
# nvcc alone first: CMake does not print its errors.
separate_arguments(flags UNIX_COMMAND "$ENV{CUDAFLAGS} ${CMAKE_CUDA_FLAGS}")
if(CMAKE_CUDA_HOST_COMPILER)
  list(APPEND flags "-ccbin=${CMAKE_CUDA_HOST_COMPILER}")
endif()
foreach(architecture IN LISTS MOE_CUDA_ARCHITECTURES)
  string(REGEX REPLACE "-(real|virtual)$" "" architecture "${architecture}")
  if(architecture MATCHES "^[0-9]")
    list(APPEND flags "-gencode=arch=compute_${architecture},code=sm_${architecture}")
  else()
    list(APPEND flags "-arch=${architecture}")
  endif()
endforeach()
list(REMOVE_DUPLICATES flags)
execute_process(
  COMMAND "${MOE_NVCC}" -std=c++20 ${flags} -o "${folder}/check" "${CMAKE_CURRENT_LIST_DIR}/check/check.cu"
  RESULT_VARIABLE failed OUTPUT_VARIABLE MOE_CUDA_OUTPUT ERROR_VARIABLE MOE_CUDA_OUTPUT)
if(NOT failed)
  execute_process(
    COMMAND "${CMAKE_COMMAND}" -S "${CMAKE_CURRENT_LIST_DIR}/check" -B "${folder}" -G "${CMAKE_GENERATOR}"
            "-DCMAKE_CUDA_COMPILER=${MOE_NVCC}" ${settings}
    RESULT_VARIABLE failed OUTPUT_VARIABLE MOE_CUDA_OUTPUT ERROR_VARIABLE MOE_CUDA_OUTPUT)
endif()

if(failed)
  set(MOE_CUDA_PROBLEM "${MOE_NVCC} ${MOE_NVCC_VERSION} was found, but does not compile")
  if(CMAKE_CUDA_HOST_COMPILER)
    string(APPEND MOE_CUDA_PROBLEM " with the host compiler ${CMAKE_CUDA_HOST_COMPILER}")
  endif()
  if(MOE_CUDA_OUTPUT MATCHES "[^\n]*(error|fatal|CMake Error)[^\n]*")
    string(STRIP "${CMAKE_MATCH_0}" first)
    string(APPEND MOE_CUDA_PROBLEM " (${first})")
  endif()
  if(MOE_CUDA_OUTPUT MATCHES "gpu architecture")
    set(MOE_CUDA_REMEDY "set MOE_CUDA_ARCHITECTURES to what this nvcc supports, or install a later CUDA toolkit")
  else()
    set(MOE_CUDA_REMEDY "set CUDAHOSTCXX to a compiler that this nvcc supports, such as an older g++, or repair the CUDA toolkit")
  endif()
else()
  set(MOE_CUDA_OUTPUT "")
  set(MOE_CUDA_CHECKED "${checked}" CACHE INTERNAL "The tools that were found to build the cuda device")
endif()
