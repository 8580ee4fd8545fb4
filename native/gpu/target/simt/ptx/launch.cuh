// Kernel launches.
#pragma once

#include <memory>
#include <tuple>
#include <utility>

#include "core/status.h"
#include "ptx/device.cuh"
#include "simt/gpu.h"
#include "simt/scheduler.h"

namespace moe::simt {

namespace machine {

// Of all kernels together. nvcc allows more, which drivers before 530 refuse.
constexpr size_t kMostParameterBytes = 4096;

template <class Kernel, class Arguments>
Status launch(const char* name, Kernel* kernel, unsigned most_threads, dim3 grid, dim3 block,
              size_t dynamic_shared_bytes, Stream stream, Arguments arguments) {
  static_assert(sizeof(Arguments) <= kMostParameterBytes, "a kernel has too many parameters for every GPU and driver");
  if (grid.x == 0 || grid.y == 0 || grid.z == 0) return {};
  struct Bound {
    Kernel* kernel;
    Arguments arguments;
  };
  const auto bound = std::make_shared<const Bound>(Bound{kernel, std::move(arguments)});
  const auto body = [](const void* pointer) {
    const Bound& call = *static_cast<const Bound*>(pointer);
    std::apply(call.kernel, call.arguments);
  };
  const Launch launch{.kernel = name,
                      .function = reinterpret_cast<const void*>(kernel),
                      .grid = grid,
                      .block = block,
                      .most_threads = most_threads,
                      .dynamic_shared_bytes = dynamic_shared_bytes,
                      .body = body,
                      .arguments = bound.get()};
  if (stream.only_prepares) {
    stream.gpu->prepare(launch);
    return {};
  }
  return stream.recording == nullptr ? stream.gpu->enqueue(launch, bound)
                                     : stream.gpu->record(launch, bound, *stream.recording);
}

}  // namespace machine

// Enqueues kernel<<<grid, block, dynamic_shared_bytes, stream>>>(arguments...), or records it if the stream is
// recording. Reports call it `name`. Arguments are copied for every thread, as CUDA copies them for the grid. An empty
// grid is skipped.
template <unsigned kThreads, class... Parameters>
Status launch(const char* name, void (*kernel)(machine::Bounds<kThreads>, Parameters...), dim3 grid, dim3 block,
              size_t dynamic_shared_bytes, Stream stream, std::type_identity_t<Parameters>... arguments) {
  return machine::launch(name, kernel, kThreads, grid, block, dynamic_shared_bytes, stream,
                         std::tuple<machine::Bounds<kThreads>, std::remove_cv_t<Parameters>...>{
                             machine::Bounds<kThreads>(), arguments...});
}

// A kernel without bounds.
template <class... Parameters>
Status launch(const char* name, void (*kernel)(Parameters...), dim3 grid, dim3 block, size_t dynamic_shared_bytes,
              Stream stream, std::type_identity_t<Parameters>... arguments) {
  return machine::launch(name, kernel, machine::kMaxThreads, grid, block, dynamic_shared_bytes, stream,
                         std::tuple<std::remove_cv_t<Parameters>...>{arguments...});
}

}  // namespace moe::simt
