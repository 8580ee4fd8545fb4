// What the operators of one device share.
#pragma once

#include <memory>
#include <utility>

#include "cuda/data_errors.h"
#include "cuda/runtime.h"

namespace moe::MOE_GPU_NAMESPACE {

struct Context {
  explicit Context(std::unique_ptr<Runtime> opened) : runtime(std::move(opened)), errors(*runtime) {}

  std::unique_ptr<Runtime> runtime;
  DataErrors errors;  // after the runtime, whose memory it uses
  // Whether products of float32 may be rounded to tf32, for the tensor cores.
  bool tf32 = false;
};

}  // namespace moe::MOE_GPU_NAMESPACE
