// Devices, kernels, streams, events and graphs.
#include <algorithm>
#include <climits>
#include <cstring>
#include <utility>

#include "state.h"

using namespace fake;

namespace fake {

// What a block gets unasked.
constexpr size_t kUnaskedShared = size_t{48} * 1024;

cudaError_t enter(const char* name) {
  State& s = state();
  if (s.ended) {
    problem("CUDA is used after it has ended with the process");
    return cudaErrorCudartUnloading;
  }
  if (s.calls_host) {
    problem("a function of the host that a stream calls uses CUDA");
    return cudaErrorNotPermitted;
  }
  const std::string called = name;
  const bool gives_back = called.ends_with("Destroy") || called.starts_with("cudaFree") ||
                          called == "cudaHostUnregister" || called == "cudaStreamSynchronize" ||
                          called == "cudaThreadExchangeStreamCaptureMode";
  if (!gives_back && s.once != cudaSuccess && s.once_at-- == 0) {
    s.failed_once = true;
    return s.once;
  }
  if (s.fault != cudaSuccess) return s.fault;
  const bool fails = s.failure != cudaSuccess && (s.failing.empty() || s.failing == called);
  return fails ? s.failure : cudaSuccess;
}

bool breaks_captures() {
  bool any = false;
  for (const void* each : state().streams) {
    CUstream_st& stream = *static_cast<CUstream_st*>(const_cast<void*>(each));
    if (!stream.captured || capture_mode == cudaStreamCaptureModeRelaxed) continue;
    const bool own = stream.thread == std::this_thread::get_id();
    const bool forbids = own ? stream.mode != cudaStreamCaptureModeRelaxed
                             : stream.mode == cudaStreamCaptureModeGlobal && capture_mode == stream.mode;
    if (!forbids) continue;
    stream.invalidated = any = true;
  }
  return any;
}

// Captures of streams that the legacy stream would have to wait for.
static std::vector<CUstream_st*> captures_beside_legacy() {
  std::vector<CUstream_st*> found;
  for (const void* each : state().streams) {
    CUstream_st* stream = static_cast<CUstream_st*>(const_cast<void*>(each));
    if (stream->captured && stream->blocking) found.push_back(stream);
  }
  return found;
}

// Of compute capability 8.0, 8.6 and 8.9, and 9.0.
static size_t shared_per_block(const Gpu& gpu) {
  return size_t{1024} * (gpu.major > 8 ? 227 : gpu.major == 8 && gpu.minor > 0 ? 99 : 163);
}

// A kernel on the calling thread's device. CUDA loads it on its first use, which must not be in a capture.
static cudaError_t load_once(const void* kernel, LoadedKernel** loaded) {
  State& s = state();
  const auto found = s.loaded.find({current_device, kernel});
  if (found != s.loaded.end()) {
    *loaded = &found->second;
    return cudaSuccess;
  }
  if (breaks_captures()) return cudaErrorStreamCaptureUnsupported;
  const auto device = static_cast<size_t>(current_device);
  if (device >= s.gpus.size()) return cudaErrorNoDevice;
  const Gpu& gpu = s.gpus[device];
  if (!has_memory(current_device, gpu.kernel_bytes)) return cudaErrorMemoryAllocation;
  LoadedKernel made;
  const cudaError_t failure = load(gpu, kernel, &made);
  if (failure != cudaSuccess) return failure;
  s.code[device] += gpu.kernel_bytes;
  made.dynamic_limit = kUnaskedShared - made.static_shared;
  *loaded = &s.loaded.emplace(std::pair{current_device, kernel}, made).first->second;
  return cudaSuccess;
}

static bool exists(const std::set<const void*>& all, const void* one) { return all.contains(one); }

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
  *properties = {};
  properties->major = gpu.major;
  properties->minor = gpu.minor;
  properties->multiProcessorCount = 132;
  properties->totalGlobalMem = gpu.memory;
  properties->sharedMemPerBlockOptin = shared_per_block(gpu);
  // A block's is followed by 1 KiB of the system's.
  properties->sharedMemPerMultiprocessor = shared_per_block(gpu) + 1024;
  std::strncpy(properties->name, gpu.name.c_str(), sizeof properties->name - 1);
  return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int device) {
  FAKE_CALL();
  if (attribute != cudaDevAttrMemoryPoolsSupported) return cudaErrorInvalidValue;
  *value = s.gpus[static_cast<size_t>(device)].has_pools;
  return cudaSuccess;
}

cudaError_t cudaSetDevice(int device) {
  FAKE_CALL();
  current_device = device;
  s.opened.insert(device);
  return cudaSuccess;
}

cudaError_t cudaGetDevice(int* device) {
  FAKE_CALL();
  *device = current_device;
  return cudaSuccess;
}

cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* attributes, const void* kernel) {
  FAKE_CALL();
  LoadedKernel* loaded = nullptr;
  if (const cudaError_t failure = load_once(kernel, &loaded); failure != cudaSuccess) return failure;
  *attributes = {};
  attributes->sharedSizeBytes = loaded->static_shared;
  attributes->maxThreadsPerBlock = static_cast<int>(loaded->most_threads);
  attributes->maxDynamicSharedSizeBytes = static_cast<int>(loaded->dynamic_limit);
  return cudaSuccess;
}

cudaError_t cudaFuncSetAttribute(const void* kernel, cudaFuncAttribute attribute, int value) {
  FAKE_CALL();
  LoadedKernel* loaded = nullptr;
  if (const cudaError_t failure = load_once(kernel, &loaded); failure != cudaSuccess) return failure;
  if (attribute == cudaFuncAttributeMaxDynamicSharedMemorySize) {
    const size_t bytes = static_cast<size_t>(value);
    if (value < 0 || loaded->static_shared + bytes > shared_per_block(s.gpus[static_cast<size_t>(current_device)])) {
      return cudaErrorInvalidValue;
    }
    loaded->dynamic_limit = bytes;
  }
  return cudaSuccess;
}

cudaError_t fake_launch(const cudaLaunchConfig_t& config, const void* kernel, std::function<void()> run) {
  FAKE_CALL();
  const dim3 grid = config.gridDim, block = config.blockDim;
  const size_t threads = size_t{block.x} * block.y * block.z;
  if (grid.x == 0 || grid.y == 0 || grid.z == 0 || threads == 0) return cudaErrorInvalidConfiguration;
  if (grid.x > INT_MAX || grid.y > 65535 || grid.z > 65535) return cudaErrorInvalidConfiguration;
  if (block.x > 1024 || block.y > 1024 || block.z > 64 || threads > 1024) return cudaErrorInvalidConfiguration;
  LoadedKernel* loaded = nullptr;
  if (const cudaError_t failure = load_once(kernel, &loaded); failure != cudaSuccess) return failure;
  if (threads > loaded->most_threads || config.dynamicSmemBytes > loaded->dynamic_limit) return cudaErrorInvalidValue;
  return enqueue(config.stream, std::move(run));
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned flags) {
  FAKE_CALL_OFF_STREAMS();
  *stream = new CUstream_st{.queue = std::make_shared<Queue>()};
  (*stream)->queue->device = current_device;
  (*stream)->blocking = (flags & cudaStreamNonBlocking) == 0;
  (*stream)->queue->early = static_cast<int>(s.timing) == 1 + s.streams_made++ % 3;
  s.streams.insert(*stream);
  return cudaSuccess;
}

// Its work is done all the same.
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  FAKE_CALL_OFF_STREAMS();
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
  // Whatever the mode.
  if (stream->captured) stream->invalidated = true;
  if (breaks_captures() || stream->captured) return cudaErrorStreamCaptureUnsupported;
  stream->queue->run_to(stream->queue->enqueued);
  stream->queue->observed = stream->queue->enqueued;
  return s.fault;
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
  FAKE_CALL();
  if (!exists(s.events, event)) return cudaErrorInvalidResourceHandle;
  if (event->queue == nullptr) return cudaSuccess;
  return enqueue(stream, [queue = event->queue, position = event->position] { queue->run_to(position); });
}

// Nobody need wait for it.
cudaError_t cudaLaunchHostFunc(cudaStream_t stream, cudaHostFn_t function, void* data) {
  FAKE_CALL();
  const cudaError_t failed = enqueue(stream, [function, data] {
    State& s = state();
    // CUDA calls it on a thread that has no GPU to call.
    const bool outer = std::exchange(s.calls_host, true);
    function(data);
    s.calls_host = outer;
  });
  if (failed == cudaSuccess && !s.late_calls) stream->queue->run_to(stream->queue->enqueued);
  return failed;
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned flags) {
  FAKE_CALL_OFF_STREAMS();
  *event = new CUevent_st{.device = current_device, .timed = (flags & cudaEventDisableTiming) == 0, .queue = nullptr};
  s.events.insert(*event);
  return cudaSuccess;
}

cudaError_t cudaEventCreate(cudaEvent_t* event) { return cudaEventCreateWithFlags(event, 0); }

cudaError_t cudaEventDestroy(cudaEvent_t event) {
  FAKE_CALL_OFF_STREAMS();
  return fake::destroy(s.events, event, cudaErrorInvalidResourceHandle);
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  FAKE_CALL();
  if (!exists(s.events, event)) return cudaErrorInvalidResourceHandle;
  if (stream == cudaStreamLegacy) {
    for (CUstream_st* captured : captures_beside_legacy()) captured->invalidated = true;
    return captures_beside_legacy().empty() ? cudaSuccess : cudaErrorStreamCaptureImplicit;
  }
  if (!exists(s.streams, stream)) {
    problem("a stream is used that was destroyed");
    return cudaErrorInvalidResourceHandle;
  }
  if (event->device != stream->queue->device) return cudaErrorInvalidResourceHandle;
  event->queue = stream->queue;
  event->position = stream->queue->enqueued;
  event->captured = stream->captured;
  return cudaSuccess;
}

cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  FAKE_CALL_OFF_STREAMS();
  if (!exists(s.events, event)) return cudaErrorInvalidResourceHandle;
  if (event->captured) return cudaErrorCapturedEvent;
  if (event->queue == nullptr) return s.fault;
  event->queue->run_to(event->position);
  event->queue->observed = std::max(event->queue->observed, event->position);
  return s.fault;
}

cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t from, cudaEvent_t to) {
  FAKE_CALL();
  if (!from->timed || !to->timed || from->queue == nullptr || to->queue == nullptr) {
    return cudaErrorInvalidResourceHandle;
  }
  for (const cudaEvent_t event : {from, to}) {
    if (event->queue->done < event->position) return cudaErrorNotReady;
  }
  *milliseconds = static_cast<float>(to->position - from->position);
  return cudaSuccess;
}

cudaError_t cudaThreadExchangeStreamCaptureMode(cudaStreamCaptureMode* mode) {
  FAKE_CALL();
  s.opened.insert(current_device);
  std::swap(*mode, capture_mode);
  return cudaSuccess;
}

cudaError_t cudaStreamIsCapturing(cudaStream_t stream, cudaStreamCaptureStatus* status) {
  FAKE_CALL();
  if (stream == cudaStreamLegacy) {
    *status = cudaStreamCaptureStatusNone;
    return captures_beside_legacy().empty() ? cudaSuccess : cudaErrorStreamCaptureImplicit;
  }
  if (!exists(s.streams, stream)) {
    problem("a stream is used that was destroyed");
    return cudaErrorInvalidResourceHandle;
  }
  *status = !stream->captured     ? cudaStreamCaptureStatusNone
            : stream->invalidated ? cudaStreamCaptureStatusInvalidated
                                  : cudaStreamCaptureStatusActive;
  return cudaSuccess;
}

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode mode) {
  FAKE_CALL();
  stream->captured = true;
  stream->invalidated = false;
  stream->mode = mode;
  stream->thread = std::this_thread::get_id();
  return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
  // Fails for what a test wants only once it has ended, as the stream would be of no use any more.
  State& s = state();
  const std::lock_guard lock(s.mutex);
  if (!stream->captured) return cudaErrorStreamCaptureUnmatched;
  if (stream->mode != cudaStreamCaptureModeRelaxed && stream->thread != std::this_thread::get_id())
    return cudaErrorStreamCaptureWrongThread;
  stream->captured = false;
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
  FAKE_CALL_OFF_STREAMS();
  const auto device = static_cast<size_t>(current_device);
  const size_t bytes = s.gpus[device].graph_bytes;
  if (!has_memory(current_device, bytes)) return cudaErrorMemoryAllocation;
  *executable = new CUgraphExec_st{.device = current_device, .work = graph->work};
  s.executables.insert(*executable);
  s.code[device] += bytes;
  return cudaSuccess;
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t executable) {
  FAKE_CALL_OFF_STREAMS();
  if (!exists(s.executables, executable)) return cudaErrorInvalidValue;
  const auto device = static_cast<size_t>(executable->device);
  s.code[device] -= s.gpus[device].graph_bytes;
  return fake::destroy(s.executables, executable);
}

cudaError_t cudaGraphUpload(cudaGraphExec_t, cudaStream_t stream) {
  FAKE_CALL_OFF_STREAMS();
  return enqueue(stream, [] {});
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t stream) {
  FAKE_CALL();
  for (const Work& work : executable->work) {
    if (const cudaError_t failed = enqueue(stream, work); failed != cudaSuccess) return failed;
  }
  return cudaSuccess;
}
