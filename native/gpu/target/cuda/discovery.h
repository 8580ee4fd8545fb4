// The GPUs of this machine.
#pragma once

#include <string>

#include "core/status.h"
#include "core/variables.h"
#include "gpu/runtime/device_traits.h"

namespace moe::cuda {

struct Gpu {
  gpu::DeviceTraits traits;
  std::string description;
};

// DEVICE_UNAVAILABLE, with the reason, if there is no such GPU or the kernels cannot run on it.
Status find_gpu(int index, const Variables& variables, Gpu* gpu);

}  // namespace moe::cuda
