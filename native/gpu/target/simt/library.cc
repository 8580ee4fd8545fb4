#include "core/device_library.h"
#include "gpu/target/simt/devices.h"

MOE_DEVICE_LIBRARY(simt, "")
