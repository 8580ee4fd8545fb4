// What users are told of drivers and limits. Without CUDA's headers, so that it is tested on every machine.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "core/variables.h"

namespace moe::cuda {

// CUDA writes 12.9 as 12090.
inline std::string version_text(int version) {
  return std::to_string(version / 1000) + "." + std::to_string(version % 1000 / 10);
}

// Of a driver that knows CUDA `driver`, or 0 if there is none, and a build with CUDA `runtime`. What is built with any
// version of CUDA runs on all drivers for the same major version.
inline std::string driver_problem(int driver, int runtime) {
  if (driver == 0) return "no NVIDIA driver is installed";
  const int major = runtime / 1000;
  std::string problem = "the NVIDIA driver is too old: it knows CUDA " + version_text(driver) +
                        ", and this build needs a driver for CUDA " + std::to_string(major) + ".0 or later";
  if (major == 12) problem += ", which is 525 or later";
  if (major == 13) problem += ", which is 580 or later";
  return problem + "; update the driver";
}

// What helps where a GPU cannot be used, by the error's name; empty if that does not tell.
inline const char* remedy(std::string_view error) {
  struct Remedy {
    std::string_view error;
    const char* words;
  };
  constexpr const char* kNoCode = ": update the driver, or build for this GPU (CMake's MOE_CUDA_ARCHITECTURES)";
  constexpr const char* kDriver =
      ": see whether nvidia-smi works, and what the driver (NVRM) has written to the kernel's log (dmesg); "
      "a container must be given the GPUs and /dev/nvidia-uvm (docker run --gpus all)";
  constexpr const char* kMps = ": start MPS (nvidia-cuda-mps-control -d), or unset CUDA_MPS_PIPE_DIRECTORY";
  constexpr Remedy kRemedies[] = {
      {"cudaErrorInvalidDeviceFunction", kNoCode},
      {"cudaErrorInvalidKernelImage", kNoCode},
      {"cudaErrorNoKernelImageForDevice", kNoCode},
      {"cudaErrorInvalidPtx", kNoCode},
      {"cudaErrorUnsupportedPtxVersion", kNoCode},
      {"cudaErrorJitCompilationDisabled", kNoCode},
      {"cudaErrorJitCompilerNotFound", kNoCode},
      {"cudaErrorInitializationError", kDriver},
      {"cudaErrorOperatingSystem", kDriver},
      {"cudaErrorUnknown", kDriver},
      {"cudaErrorMpsConnectionFailed", kMps},
      {"cudaErrorMpsServerNotReady", kMps},
      {"cudaErrorMemoryAllocation",
       ": free memory of this GPU, of which even a process without tensors takes some; "
       "nvidia-smi names the processes that have it"},
      {"cudaErrorSystemNotReady",
       ": start NVIDIA's fabric manager, or wait until it is ready (systemctl status nvidia-fabricmanager); "
       "GPUs that NVSwitches connect need it"},
      {"cudaErrorSystemDriverMismatch",
       ": restart the system, so that the driver in use is the one that is installed; "
       "a container needs the libraries of the host's driver"},
      {"cudaErrorCompatNotSupportedOnDevice",
       ": this GPU cannot run a later CUDA than its driver's; "
       "take the folder of cuda-compat out of LD_LIBRARY_PATH, and update the driver"},
      {"cudaErrorStubLibrary", ": take the CUDA toolkit's folder of stubs out of LD_LIBRARY_PATH"},
      {"cudaErrorDevicesUnavailable",
       ": wait for the process that uses it alone, or let several use it (nvidia-smi --compute-mode=DEFAULT)"},
  };
  for (const Remedy& each : kRemedies) {
    if (each.error == error) return each.words;
  }
  return "";
}

// Follows what is said of the GPUs that are visible; empty if all are.
inline std::string visibility(const Variables& variables) {
  const std::string* visible = variables.find("CUDA_VISIBLE_DEVICES");
  return visible == nullptr ? "" : " with CUDA_VISIBLE_DEVICES=\"" + *visible + "\"";
}

// `most`: what the process may lock in memory, UINT64_MAX if that has no limit.
inline std::string pin_problem(size_t bytes, uint64_t most, const std::string& cause) {
  const std::string limit = most == UINT64_MAX ? "without a limit" : "up to " + std::to_string(most) + " bytes";
  const std::string pinned = std::to_string(bytes) + " bytes of the host's memory for copies to and from the GPU";
  return "cannot pin " + pinned + ": " + cause + "; this process may lock memory " + limit +
         " (ulimit -l): raise that (in a container by --ulimit memlock=-1), free memory of the host, or use offload "
         "for "
         "fewer layers";
}

}  // namespace moe::cuda
