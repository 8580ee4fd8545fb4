# The addon, and the libraries of devices beside it.
file(GLOB MOE_BINDING_SOURCES CONFIGURE_DEPENDS native/binding/*.cc)
add_library(moe_kernels SHARED native/addon.cc ${MOE_BINDING_SOURCES})
set_target_properties(moe_kernels PROPERTIES PREFIX "" SUFFIX ".node")
target_include_directories(moe_kernels SYSTEM PRIVATE ${CMAKE_JS_INC})
target_compile_definitions(moe_kernels PRIVATE
  NAPI_VERSION=9
  NODE_ADDON_API_CPP_EXCEPTIONS
  NODE_ADDON_API_DISABLE_DEPRECATED
  NODE_ADDON_API_REQUIRE_BASIC_FINALIZERS
  # A worker that is terminated in mid-work must not take the process down.
  NODE_API_SWALLOW_UNTHROWABLE_EXCEPTIONS
  "MOE_COMPILER=${CMAKE_CXX_COMPILER_ID} ${CMAKE_CXX_COMPILER_VERSION}"
  MOE_BUILD_TYPE=${CMAKE_BUILD_TYPE}
  MOE_SANITIZERS=${MOE_SANITIZE})
target_link_libraries(moe_kernels PRIVATE moe_core moe_cpu Threads::Threads ${CMAKE_DL_LIBS})
moe_precompile(moe_kernels native/binding/addon.h native/binding/arguments.h native/binding/device.h native/binding/tensor.h)
set(MOE_LIBRARIES moe_kernels)

# A library from another build must not be loaded: its classes may have other members. A digest of the headers that both
# sides include tells them apart.
file(GLOB_RECURSE MOE_INTERFACE_HEADERS CONFIGURE_DEPENDS native/core/*.h ${MOE_TESTS_FOLDER}/extension/core/*.h)
set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${MOE_INTERFACE_HEADERS})
set(digests "${CMAKE_CXX_COMPILER_ID} ${MOE_BUILD_TESTS} ${MOE_SANITIZE}")
foreach(header IN LISTS MOE_INTERFACE_HEADERS)
  file(SHA256 ${header} digest)
  string(APPEND digests " ${digest}")
endforeach()
string(SHA256 MOE_INTERFACE "${digests}")
string(SUBSTRING ${MOE_INTERFACE} 0 16 MOE_INTERFACE)
set(MOE_INTERFACE_FILES native/binding/devices.cc)

foreach(device simt cuda)
  if(NOT TARGET moe_${device})
    continue()
  endif()
  set(entry ${CMAKE_CURRENT_SOURCE_DIR}/native/gpu/target/${device}/library.cc)
  add_library(moe_kernels_${device} SHARED ${entry})
  list(APPEND MOE_INTERFACE_FILES ${entry})
  # The addon is loaded before, under its own name, wherever it is.
  set_target_properties(moe_kernels_${device} PROPERTIES
    PREFIX "" SUFFIX ".so" BUILD_WITH_INSTALL_RPATH ON INSTALL_RPATH "$ORIGIN")
  target_link_libraries(moe_kernels_${device} PRIVATE moe_kernels moe_gpu_plan moe_${device} Threads::Threads)
  list(APPEND MOE_LIBRARIES moe_kernels_${device})
endforeach()
set_property(SOURCE ${MOE_INTERFACE_FILES} APPEND PROPERTY COMPILE_DEFINITIONS "MOE_INTERFACE=\"${MOE_INTERFACE}\"")
if(TARGET moe_kernels_cuda)
  target_compile_definitions(moe_kernels_cuda PRIVATE "MOE_CUDA_VERSION=\"${CMAKE_CUDA_COMPILER_VERSION}\"")
endif()

foreach(library IN LISTS MOE_LIBRARIES)
  if(APPLE)
    target_link_options(${library} PRIVATE -undefined dynamic_lookup) # Node has what Node-API declares
  endif()
  if(MOE_STATIC_RUNTIME)
    # No symbol of the C++ library is seen from outside, so none is mixed with those of the library that Node has loaded.
    set(MOE_EXPORTS ${CMAKE_CURRENT_SOURCE_DIR}/native/exports.map)
    target_link_options(${library} PRIVATE -static-libstdc++ -Wl,--gc-sections,--version-script=${MOE_EXPORTS})
    set_target_properties(${library} PROPERTIES LINK_DEPENDS ${MOE_EXPORTS})
  endif()
endforeach()

# Why this build lacks devices, a line each, which scripts/install.mjs prints.
set(missing "")
foreach(device simt cuda)
  string(TOUPPER ${device} DEVICE)
  if(MOE_${DEVICE}_PROBLEM)
    string(REGEX REPLACE "[ \t\r\n]+" " " problem "${MOE_${DEVICE}_PROBLEM}; for it, ${MOE_${DEVICE}_REMEDY}")
    string(APPEND missing "the ${device} device is left out: ${problem}, and build from source\n")
  endif()
endforeach()
file(WRITE ${PROJECT_BINARY_DIR}/missing_devices.txt "${missing}")
