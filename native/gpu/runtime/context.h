// What a device's operators share.
#pragma once

#include <memory>
#include <utility>

#include "gpu/runtime/data_errors.h"
#include "gpu/runtime/runtime.h"

namespace moe::MOE_GPU_NAMESPACE {

struct Context {
  Context(std::unique_ptr<Runtime> opened, bool allow_tf32)
      : runtime(std::move(opened)), errors(*runtime), tf32(allow_tf32) {}

  const gpu::DeviceTraits& traits() const { return runtime->traits(); }
  Stream stream() const { return runtime->stream(); }

  std::unique_ptr<Runtime> runtime;
  DataErrors errors;  // after the runtime, whose memory it uses
  // Whether float32 products may round to tf32, to use tensor cores.
  bool tf32;
};

}  // namespace moe::MOE_GPU_NAMESPACE
