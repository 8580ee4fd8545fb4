# What the cuda and the simt device are both compiled from. Plans know no device and are compiled once.
file(GLOB_RECURSE MOE_GPU_SOURCES CONFIGURE_DEPENDS ${CMAKE_CURRENT_LIST_DIR}/*.cu)
file(GLOB_RECURSE MOE_GPU_PLAN_SOURCES CONFIGURE_DEPENDS ${CMAKE_CURRENT_LIST_DIR}/*.cc)
list(FILTER MOE_GPU_SOURCES EXCLUDE REGEX "/gpu/target/")
list(FILTER MOE_GPU_PLAN_SOURCES EXCLUDE REGEX "/gpu/target/")
