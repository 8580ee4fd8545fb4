// What a device's operators share.
#pragma once

#include <memory>
#include <utility>

#include "core/rounding.h"
#include "gpu/runtime/data_errors.h"
#include "gpu/runtime/runtime.h"

namespace moe::MOE_GPU_NAMESPACE {

struct Context {
  Context(std::unique_ptr<Runtime> opened, const AllowedRoundings& roundings)
      : runtime(std::move(opened)), errors(*runtime), allowed(roundings) {}

  const gpu::DeviceTraits& traits() const { return runtime->traits(); }
  Stream stream() const { return runtime->stream(); }

  std::unique_ptr<Runtime> runtime;
  DataErrors errors;  // after the runtime, whose memory it uses
  // What expert products may round, to use faster units of tensor cores.
  AllowedRoundings allowed;
};

}  // namespace moe::MOE_GPU_NAMESPACE
