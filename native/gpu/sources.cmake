# The kernels, which the cuda and the simt device each compile, and the plans, which are compiled once for both.
file(GLOB_RECURSE MOE_GPU_SOURCES CONFIGURE_DEPENDS ${CMAKE_CURRENT_LIST_DIR}/*.cu)
file(GLOB_RECURSE MOE_GPU_PLAN_SOURCES CONFIGURE_DEPENDS ${CMAKE_CURRENT_LIST_DIR}/*.cc)
list(FILTER MOE_GPU_SOURCES EXCLUDE REGEX "/gpu/target/")
list(FILTER MOE_GPU_PLAN_SOURCES EXCLUDE REGEX "/gpu/target/")
# The tests' own kernels; see test/native/extension.
if(MOE_BUILD_TESTS)
  file(GLOB MOE_GPU_EXTENSION CONFIGURE_DEPENDS ${MOE_TESTS_FOLDER}/extension/gpu/*.cu)
  file(GLOB MOE_GPU_PLAN_EXTENSION CONFIGURE_DEPENDS ${MOE_TESTS_FOLDER}/extension/gpu/*.cc)
  list(APPEND MOE_GPU_SOURCES ${MOE_GPU_EXTENSION})
  list(APPEND MOE_GPU_PLAN_SOURCES ${MOE_GPU_PLAN_EXTENSION})
endif()
