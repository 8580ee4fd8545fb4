// The one place that includes napi.h; its macros (NAPI_VERSION, exceptions, finalizers) are set by CMakeLists.txt.
#pragma once

#include <napi.h>
