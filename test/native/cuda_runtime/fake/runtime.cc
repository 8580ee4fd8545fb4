// Devices, kernels, streams, events and graphs.
#include <cstring>

#include "state.h"

using namespace fake;

namespace fake {

cudaError_t enter(const char* name) {
  State& s = state();
  const std::string called = name;
  const bool gives_back = called.ends_with("Destroy") || called.starts_with("cudaFree") ||
                          called == "cudaHostUnregister" || called == "cudaStreamSynchronize";
  if (!gives_back && s.once != cudaSuccess && s.once_at-- == 0) {
    s.failed_once = true;
    return s.once;
  }
  const bool fails = s.failure != cudaSuccess && (s.failing.empty() || s.failing == called);
  return fails ? s.failure : cudaSuccess;
}

bool breaks_capture() {
  if (capturing == nullptr) return false;
  capturing->invalidated = true;
  return true;
}

bool exists(const std::set<const void*>& all, const void* one) { return all.contains(one); }

cudaError_t enqueue(cudaStream_t stream, Work work) {
  if (!exists(state().streams, stream)) {
    problem("a stream is used that was destroyed");
    return cudaErrorInvalidResourceHandle;
  }
  if (stream->queue->device != current_device) return cudaErrorInvalidResourceHandle;
  if (stream->captured) {
    stream->recorded.push_back(std::move(work));
  } else {
    stream->queue->push(std::move(work));
  }
  return cudaSuccess;
}

}  // namespace fake

cudaError_t cudaDriverGetVersion(int* version) {
  FAKE_CALL();
  *version = s.driver;
  return cudaSuccess;
}

cudaError_t cudaGetDeviceCount(int* count) {
  FAKE_CALL();
  if (s.driver < CUDART_VERSION / 1000 * 1000) return cudaErrorInsufficientDriver;
  if (s.gpus.empty()) return cudaErrorNoDevice;
  *count = static_cast<int>(s.gpus.size());
  return cudaSuccess;
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device) {
  FAKE_CALL();
  const Gpu& gpu = s.gpus[static_cast<size_t>(device)];
  *properties = {.name = {},
                 .major = gpu.major,
                 .minor = gpu.minor,
                 .multiProcessorCount = 132,
                 .totalGlobalMem = gpu.memory,
                 .sharedMemPerBlockOptin = 227 * 1024,
                 .sharedMemPerMultiprocessor = 228 * 1024};
  std::strncpy(properties->name, gpu.name.c_str(), sizeof properties->name - 1);
  return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr, int device) {
  FAKE_CALL();
  *value = s.gpus[static_cast<size_t>(device)].has_pools;
  return cudaSuccess;
}

cudaError_t cudaSetDevice(int device) {
  FAKE_CALL();
  current_device = device;
  return cudaSuccess;
}

cudaError_t cudaGetDevice(int* device) {
  FAKE_CALL();
  *device = current_device;
  return cudaSuccess;
}

cudaError_t fake_function_attributes(cudaFuncAttributes* attributes, const void* kernel) {
  FAKE_CALL();
  if (s.loaded.insert({current_device, kernel}).second && breaks_capture()) return cudaErrorStreamCaptureUnsupported;
  attributes->sharedSizeBytes = s.static_shared[kernel];
  return cudaSuccess;
}

cudaError_t fake_set_attribute(const void* kernel, cudaFuncAttribute attribute, int value) {
  FAKE_CALL();
  if (attribute == cudaFuncAttributeMaxDynamicSharedMemorySize) {
    if (s.static_shared[kernel] + static_cast<size_t>(value) > 227 * 1024) return cudaErrorInvalidValue;
    s.dynamic_limits[{current_device, kernel}] = static_cast<size_t>(value);
  }
  return cudaSuccess;
}

cudaError_t fake_launch(const cudaLaunchConfig_t& config, const void* kernel, std::function<void()> run) {
  FAKE_CALL();
  const size_t fixed = s.static_shared[kernel], most = s.dynamic_limits[{current_device, kernel}];
  const size_t granted = most > 0 ? most : 48 * 1024 - fixed;
  if (config.dynamicSmemBytes > granted) return cudaErrorInvalidValue;
  if (s.loaded.insert({current_device, kernel}).second && breaks_capture()) return cudaErrorStreamCaptureUnsupported;
  return enqueue(config.stream, std::move(run));
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) {
  FAKE_CALL();
  *stream = new CUstream_st{.queue = std::make_shared<Queue>()};
  (*stream)->queue->device = current_device;
  (*stream)->queue->early = static_cast<int>(s.timing) == 1 + s.streams_made++ % 3;
  s.streams.insert(*stream);
  return cudaSuccess;
}

// Its work is done all the same.
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  FAKE_CALL();
  if (s.streams.erase(stream) == 0) return cudaErrorInvalidResourceHandle;
  stream->queue->run_to(stream->queue->enqueued);
  delete stream;
  return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  FAKE_CALL();
  if (!exists(s.streams, stream)) {
    problem("a stream is used that was destroyed");
    return cudaErrorInvalidResourceHandle;
  }
  if (stream->captured) breaks_capture();
  if (stream->captured) return cudaErrorStreamCaptureUnsupported;
  stream->queue->run_to(stream->queue->enqueued);
  return cudaSuccess;
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
  FAKE_CALL();
  if (!exists(s.events, event)) return cudaErrorInvalidResourceHandle;
  if (event->queue == nullptr) return cudaSuccess;
  return enqueue(stream, [queue = event->queue, position = event->position] { queue->run_to(position); });
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned flags) {
  FAKE_CALL();
  *event = new CUevent_st{.device = current_device, .timed = (flags & cudaEventDisableTiming) == 0, .queue = nullptr};
  s.events.insert(*event);
  return cudaSuccess;
}

cudaError_t cudaEventCreate(cudaEvent_t* event) { return cudaEventCreateWithFlags(event, 0); }

cudaError_t cudaEventDestroy(cudaEvent_t event) {
  FAKE_CALL();
  return fake::destroy(s.events, event, cudaErrorInvalidResourceHandle);
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  FAKE_CALL();
  if (!exists(s.events, event)) return cudaErrorInvalidResourceHandle;
  if (!exists(s.streams, stream)) {
    problem("a stream is used that was destroyed");
    return cudaErrorInvalidResourceHandle;
  }
  if (event->device != stream->queue->device) return cudaErrorInvalidResourceHandle;
  event->queue = stream->queue;
  event->position = stream->queue->enqueued;
  return cudaSuccess;
}

cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  FAKE_CALL();
  if (!exists(s.events, event)) return cudaErrorInvalidResourceHandle;
  if (event->queue != nullptr) event->queue->run_to(event->position);
  return cudaSuccess;
}

cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t from, cudaEvent_t to) {
  FAKE_CALL();
  if (!from->timed || !to->timed || from->queue == nullptr || to->queue == nullptr) {
    return cudaErrorInvalidResourceHandle;
  }
  *milliseconds = static_cast<float>(to->position - from->position);
  return cudaSuccess;
}

cudaError_t cudaStreamIsCapturing(cudaStream_t stream, cudaStreamCaptureStatus* status) {
  FAKE_CALL();
  if (!exists(s.streams, stream)) {
    problem("a stream is used that was destroyed");
    return cudaErrorInvalidResourceHandle;
  }
  *status = stream->captured ? cudaStreamCaptureStatusActive : cudaStreamCaptureStatusNone;
  return cudaSuccess;
}

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode) {
  FAKE_CALL();
  stream->captured = true;
  stream->invalidated = false;
  stream->thread = std::this_thread::get_id();
  capturing = stream;
  return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
  // Fails for what a test wants only once it has ended, as the stream would be of no use any more.
  State& s = state();
  const std::lock_guard lock(s.mutex);
  if (!stream->captured) return cudaErrorStreamCaptureUnmatched;
  if (stream->thread != std::this_thread::get_id()) return cudaErrorStreamCaptureWrongThread;
  stream->captured = false;
  capturing = nullptr;
  std::vector<Work> work = std::move(stream->recorded);
  stream->recorded.clear();
  if (stream->invalidated) return cudaErrorStreamCaptureInvalidated;
  if (const cudaError_t failure = enter(__func__); failure != cudaSuccess) return failure;
  *graph = new CUgraph_st{std::move(work)};
  s.graphs.insert(*graph);
  return cudaSuccess;
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  FAKE_CALL();
  return fake::destroy(s.graphs, graph);
}

cudaError_t cudaGraphInstantiateWithFlags(cudaGraphExec_t* executable, cudaGraph_t graph, unsigned long long) {
  FAKE_CALL();
  *executable = new CUgraphExec_st{graph->work};
  s.executables.insert(*executable);
  return cudaSuccess;
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t executable) {
  FAKE_CALL();
  return fake::destroy(s.executables, executable);
}

cudaError_t cudaGraphUpload(cudaGraphExec_t, cudaStream_t stream) {
  FAKE_CALL();
  return enqueue(stream, [] {});
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t stream) {
  FAKE_CALL();
  for (const Work& work : executable->work) {
    if (const cudaError_t failed = enqueue(stream, work); failed != cudaSuccess) return failed;
  }
  return cudaSuccess;
}
