#include "core/device_library.h"
#include "gpu/target/cuda/devices.h"

MOE_DEVICE_LIBRARY(cuda, MOE_CUDA_VERSION)
