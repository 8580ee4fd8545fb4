// The runtime of NVIDIA GPUs. cudart is linked statically and looks up the driver on its first call, so a binary that
// contains this also loads on machines without NVIDIA software.
#include "gpu/runtime/runtime.h"

#include <sys/resource.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <utility>
#include <vector>

#include <ptx/launch.cuh>

#include "core/stream.h"
#include "gpu/target/cuda/discovery.h"
#include "gpu/target/cuda/messages.h"

namespace moe::cuda {
namespace {

// Of a call that pins memory of the host: where that runs out, the GPU's need not.
Status pin_status(cudaError_t error, const char* what, size_t bytes) {
  const Status status = cuda_status(error, what);
  if (status.ok()) return status;
  rlimit limit{RLIM_INFINITY, RLIM_INFINITY};
  getrlimit(RLIMIT_MEMLOCK, &limit);
  const uint64_t most = limit.rlim_cur == RLIM_INFINITY ? UINT64_MAX : limit.rlim_cur;
  return {status.code, pin_problem(bytes, most, status.message)};
}

// Pinned host memory that copies pass through in pieces, so that the host's own memory need not be pinned and can be
// reused immediately.
class Staging {
 public:
  explicit Staging(size_t buffers) : buffers_(buffers) {}
  ~Staging() {
    for (const Buffer& buffer : buffers_) {
      if (buffer.copied != nullptr) cudaEventDestroy(buffer.copied);
      if (buffer.data != nullptr) cudaFreeHost(buffer.data);
    }
  }

  // Returns once `host` has been read; the copies continue in the background.
  Status upload(void* device, const void* host, size_t bytes, cudaStream_t stream) {
    const std::lock_guard lock(mutex_);
    for (size_t offset = 0; offset < bytes; offset += kPiece) {
      const size_t piece = bytes - offset < kPiece ? bytes - offset : kPiece;
      Buffer& buffer = buffers_[next_++ % buffers_.size()];
      MOE_TRY(prepare(buffer));
      MOE_TRY(cuda_status(cudaEventSynchronize(buffer.copied), "upload"));
      std::memcpy(buffer.data, static_cast<const char*>(host) + offset, piece);
      MOE_TRY(enqueue(buffer, static_cast<char*>(device) + offset, buffer.data, piece, stream));
    }
    return {};
  }

  // Returns once all has been written. One piece is copied out while the next is in transit.
  Status download(std::span<const Download> downloads, cudaStream_t stream) {
    const std::lock_guard lock(mutex_);
    std::vector<Download> pieces;
    for (const Download& each : downloads) {
      for (size_t offset = 0; offset < each.bytes; offset += kPiece) {
        pieces.push_back({static_cast<char*>(each.host) + offset, static_cast<const char*>(each.device) + offset,
                          std::min(each.bytes - offset, kPiece)});
      }
    }
    const auto begin = [&](size_t index) -> Status {
      if (index >= pieces.size()) return {};
      Buffer& buffer = buffers_[index % buffers_.size()];
      MOE_TRY(prepare(buffer));
      return enqueue(buffer, buffer.data, pieces[index].device, pieces[index].bytes, stream);
    };
    MOE_TRY(begin(0));
    for (size_t index = 0; index < pieces.size(); ++index) {
      MOE_TRY(begin(index + 1));
      const Buffer& buffer = buffers_[index % buffers_.size()];
      MOE_TRY(cuda_status(cudaEventSynchronize(buffer.copied), "work enqueued earlier"));
      std::memcpy(pieces[index].host, buffer.data, pieces[index].bytes);
    }
    return {};
  }

 private:
  static constexpr size_t kPiece = size_t{4} << 20;

  struct Buffer {
    void* data = nullptr;
    cudaEvent_t copied = nullptr;
  };

  static Status prepare(Buffer& buffer) {
    if (buffer.copied == nullptr) {
      MOE_TRY(cuda_status(cudaEventCreateWithFlags(&buffer.copied, cudaEventDisableTiming), "cudaEventCreate"));
    }
    if (buffer.data != nullptr) return {};
    return pin_status(cudaMallocHost(&buffer.data, kPiece), "cudaMallocHost", kPiece);
  }

  static Status enqueue(const Buffer& buffer, void* to, const void* from, size_t bytes, cudaStream_t stream) {
    MOE_TRY(cuda_status(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDefault, stream), "cudaMemcpyAsync"));
    return cuda_status(cudaEventRecord(buffer.copied, stream), "cudaEventRecord");
  }

  std::mutex mutex_;
  std::vector<Buffer> buffers_;
  size_t next_ = 0;
};

// Whether work on a stream is recorded by somebody, who may not wait for it.
bool is_captured(cudaStream_t stream) {
  cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
  return cudaStreamIsCapturing(stream, &status) != cudaSuccess || status != cudaStreamCaptureStatusNone;
}

// The pools of all devices that are open in this process. What one keeps is not there for another on the same GPU.
class Pools {
 public:
  static Pools& of_process() {
    // Never destroyed: a device may be closed while the process exits.
    static Pools& all = *new Pools;
    return all;
  }
  // Memory of the pool is released on this stream.
  void add(int device, cudaMemPool_t pool, cudaStream_t stream) {
    const std::lock_guard lock(mutex_);
    pools_.push_back({device, pool, stream});
  }
  // From here on on this one. Nobody waits for the one before any more.
  void move(cudaMemPool_t pool, cudaStream_t stream) noexcept {
    const std::lock_guard lock(mutex_);
    for (Pool& each : pools_) {
      if (each.pool == pool) each.stream = stream;
    }
  }
  void remove(cudaMemPool_t pool) noexcept {
    const std::lock_guard lock(mutex_);
    std::erase_if(pools_, [pool](const Pool& each) { return each.pool == pool; });
  }
  // Gives back to a GPU what its pools keep. CUDA counts what is released as used until somebody has waited for that.
  // False if it cannot.
  bool trim(int device) {
    const std::lock_guard lock(mutex_);
    bool trimmed = true;
    for (const Pool& each : pools_) {
      if (each.device != device) continue;
      if (!is_captured(each.stream)) trimmed = cudaStreamSynchronize(each.stream) == cudaSuccess && trimmed;
      trimmed = cudaMemPoolTrimTo(each.pool, 0) == cudaSuccess && trimmed;
    }
    return trimmed;
  }

 private:
  struct Pool {
    int device;
    cudaMemPool_t pool;
    cudaStream_t stream;
  };

  std::mutex mutex_;
  std::vector<Pool> pools_;
};

MOE_KERNEL(first_kernel, (32), int*) {}

// Makes a GPU the calling thread's and loads a kernel. What other processes or the build prevent shows here.
Status begin_use(int index, const Gpu& gpu) {
  const char* what = "cudaSetDevice";
  cudaError_t error = cudaSetDevice(index);
  if (error == cudaSuccess) {
    what = "loading a kernel";
    cudaFuncAttributes attributes{};
    error = cudaFuncGetAttributes(&attributes, first_kernel);
  }
  if (error == cudaSuccess) return {};
  return {Code::device_unavailable, "cuda:" + std::to_string(index) + ": " + gpu.description + ", cannot be used: " +
                                        cuda_status(error, what).message + remedy(cudaGetErrorName(error))};
}

// CUDA may not be used once it has ended with the process, which Node begins without a word on process.exit(). What is
// to be done then is done in reverse order, so this comes after begin_use(), which has loaded the driver.
void halt_before_cuda_ends() {
  [[maybe_unused]] static const int registered = std::atexit([] { moe::Stream::halt_all(); });
}

// In a graph, memory would be the graph's, and copies would read what the host has when it is launched.
Status captured_stream() {
  return {Code::unsupported_operation,
          "stream: expected one that nobody captures: use the device before or after the capture, or layer.capture()"};
}

// Of a stream of the caller's: work is put on it by several threads, and its events are this GPU's.
Status check_stream(cudaStream_t stream, int index) {
  const std::string expected = "stream: expected a CUDA stream of cuda:" + std::to_string(index) + ", got ";
  if (stream == cudaStreamPerThread) {
    return {Code::invalid_argument, expected + "cudaStreamPerThread, which is another one on each thread"};
  }
  if (cudaStreamCaptureStatus status;
      cudaStreamIsCapturing(stream, &status) == cudaSuccess && status != cudaStreamCaptureStatusNone) {
    return captured_stream();
  }
  cudaEvent_t event = nullptr;
  MOE_TRY(cuda_status(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), "cudaEventCreate"));
  const Status recorded = cuda_status(cudaEventRecord(event, stream), "cudaEventRecord");
  cudaEventDestroy(event);
  return recorded.ok() ? recorded : Status{Code::invalid_argument, expected + "another: " + recorded.message};
}

}  // namespace

struct Graph {
  // CUDA frees it only after the launches in flight are done.
  ~Graph() {
    if (executable != nullptr) cudaGraphExecDestroy(executable);
  }

  cudaGraphExec_t executable = nullptr;
};

struct Runtime::State {
  int device = 0;
  bool poison = false;
  gpu::DeviceTraits traits;
  std::string description;
  cudaStream_t given = nullptr;  // the caller's stream, if it gave one
  // Where work and memory are in order: the caller's until release_stream(), if it gave one. Read by any thread.
  std::atomic<cudaStream_t> stream = nullptr;
  // Graphs are recorded on a stream of their own: other threads may allocate on the main one at any time.
  cudaStream_t recording = nullptr;
  cudaMemPool_t pool = nullptr;
  // Several uploads can be in flight, so that the stream's thread need not wait for the GPU before it enqueues more.
  Staging uploads{8};
  Staging downloads{2};

  // Memory that was released while the caller captured its stream, where CUDA takes a release for the graph's.
  std::mutex kept_mutex;
  std::vector<void*> kept;

  ~State() {
    cudaSetDevice(device);
    if (pool != nullptr) Pools::of_process().remove(pool);
    const cudaStream_t last = stream;
    if (last != nullptr) release_kept();
    if (last != nullptr) cudaStreamSynchronize(last);
    if (last != nullptr && last != given && last != recording) cudaStreamDestroy(last);
    if (recording != nullptr) cudaStreamDestroy(recording);
    if (pool != nullptr) cudaMemPoolDestroy(pool);
  }

  // Waits for the enqueued work, and gives what pools keep back to the GPU. False if it cannot.
  bool trim() {
    if (is_captured(stream) || is_captured(recording)) return false;
    release_kept();
    return Pools::of_process().trim(device);
  }

  // Whether the stream is the caller's, and recorded by it.
  bool caller_captures() const {
    const cudaStream_t current = stream;
    return current != nullptr && current == given && is_captured(current);
  }

  void release(void* data) noexcept {
    const std::lock_guard lock(kept_mutex);
    // Without memory for its address, it stays until the pool goes.
    if (caller_captures()) return (void)guarded([&] { return kept.push_back(data), Status(); });
    cudaFreeAsync(data, stream);
  }

  void release_kept() noexcept {
    const std::lock_guard lock(kept_mutex);
    if (kept.empty() || caller_captures()) return;
    for (void* data : kept) cudaFreeAsync(data, stream);
    kept.clear();
  }
};

Runtime::Runtime(std::unique_ptr<State> state) : state_(std::move(state)) {}
Runtime::~Runtime() = default;

Status Runtime::open(int index, const DeviceOptions& options, std::unique_ptr<Runtime>* runtime) {
  Gpu gpu;
  MOE_TRY(find_gpu(index, options.variables, &gpu));
  MOE_TRY(begin_use(index, gpu));
  halt_before_cuda_ends();
  auto state = std::make_unique<State>();
  state->device = index;
  state->poison = options.poison;
  state->traits = gpu.traits;
  state->description = gpu.description;
  cudaStream_t stream = static_cast<cudaStream_t>(options.stream);
  if (stream != nullptr) {
    MOE_TRY(check_stream(stream, index));
    state->given = stream;
  } else {
    MOE_TRY(cuda_status(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "cudaStreamCreate"));
  }
  state->stream = stream;
  MOE_TRY(cuda_status(cudaStreamCreateWithFlags(&state->recording, cudaStreamNonBlocking), "cudaStreamCreate"));
  cudaMemPoolProps properties{};
  properties.allocType = cudaMemAllocationTypePinned;
  properties.location.type = cudaMemLocationTypeDevice;
  properties.location.id = index;
  MOE_TRY(cuda_status(cudaMemPoolCreate(&state->pool, &properties), "cudaMemPoolCreate"));
  // Keep freed memory: asking the driver for every workspace would cost more than the kernels.
  uint64_t threshold = UINT64_MAX;
  MOE_TRY(cuda_status(cudaMemPoolSetAttribute(state->pool, cudaMemPoolAttrReleaseThreshold, &threshold),
                      "cudaMemPoolSetAttribute"));
  Pools::of_process().add(index, state->pool, stream);
  runtime->reset(new Runtime(std::move(state)));
  return {};
}

const gpu::DeviceTraits& Runtime::traits() const { return state_->traits; }
const std::string& Runtime::description() const { return state_->description; }
bool Runtime::host_addressable() const { return false; }
Stream Runtime::stream() const { return state_->stream.load(); }

void Runtime::release_stream() noexcept {
  const cudaStream_t given = state_->given;
  if (given == nullptr || state_->stream != given) return;
  cudaSetDevice(state_->device);
  // Nothing is recorded any more, so that stream is free. What comes there waits for the work on the caller's.
  cudaEvent_t worked = nullptr;
  if (!is_captured(given)) {
    const bool waits = cudaEventCreateWithFlags(&worked, cudaEventDisableTiming) == cudaSuccess &&
                       cudaEventRecord(worked, given) == cudaSuccess &&
                       cudaStreamWaitEvent(state_->recording, worked, 0) == cudaSuccess;
    if (!waits) cudaStreamSynchronize(given);
  }
  if (worked != nullptr) cudaEventDestroy(worked);
  Pools::of_process().move(state_->pool, state_->recording);
  state_->stream = state_->recording;
  state_->release_kept();
}

Status Runtime::use() {
  MOE_TRY(cuda_status(cudaSetDevice(state_->device), "cudaSetDevice"));
  return state_->caller_captures() ? captured_stream() : Status();
}

Status Runtime::allocate(size_t bytes, void** data) {
  MOE_TRY(use());
  state_->release_kept();
  const auto allocate = [&] {
    // Even empty memory needs an address.
    return cudaMallocFromPoolAsync(data, std::max<size_t>(bytes, 1), state_->pool, state_->stream);
  };
  cudaError_t error = allocate();
  // What pools keep may be in pieces that are too small, or another device's.
  if (error == cudaErrorMemoryAllocation && state_->trim()) error = allocate();
  if (error == cudaErrorMemoryAllocation) {
    size_t free = 0, total = 0;
    cudaMemGetInfo(&free, &total);
    return {Code::out_of_memory, "cannot allocate " + std::to_string(bytes) + " bytes of GPU memory, of which " +
                                     std::to_string(free) + " of " + std::to_string(total) +
                                     " are free; dispose of tensors and layers that are no longer needed"};
  }
  MOE_TRY(cuda_status(error, "cudaMallocFromPoolAsync"));
  if (!state_->poison) return {};
  Status poisoned = guarded([&] { return fill(*data, 0xff, bytes); });
  if (!poisoned.ok()) release(std::exchange(*data, nullptr));
  return poisoned;
}

void Runtime::release(void* data) {
  cudaSetDevice(state_->device);
  state_->release(data);
}

Status Runtime::fill(void* data, int value, size_t bytes) {
  if (bytes == 0) return {};
  MOE_TRY(use());
  return cuda_status(cudaMemsetAsync(data, value, bytes, state_->stream), "cudaMemsetAsync");
}

Status Runtime::write(void* device, const void* host, size_t bytes) {
  MOE_TRY(use());
  return state_->uploads.upload(device, host, bytes, state_->stream);
}

Status Runtime::read(std::span<const Download> downloads) {
  MOE_TRY(use());
  return state_->downloads.download(downloads, state_->stream);
}

Status Runtime::pin(void* data, size_t bytes) {
  MOE_TRY(use());
  return pin_status(cudaHostRegister(data, bytes, cudaHostRegisterDefault), "cudaHostRegister", bytes);
}

void Runtime::unpin(void* data) {
  cudaSetDevice(state_->device);
  cudaHostUnregister(data);
}

void Runtime::settle() noexcept {
  cudaSetDevice(state_->device);
  cudaStreamSynchronize(state_->stream);
}

static Status instantiate(cudaGraph_t recorded, cudaStream_t stream, std::shared_ptr<const Graph>* graph) {
  const auto made = std::make_shared<Graph>();
  MOE_TRY(cuda_status(cudaGraphInstantiateWithFlags(&made->executable, recorded, 0), "cudaGraphInstantiate"));
  // Upload now, so that the first launch is as fast as later ones.
  MOE_TRY(cuda_status(cudaGraphUpload(made->executable, stream), "cudaGraphUpload"));
  *graph = made;
  return {};
}

Status Runtime::record(const std::function<Status(Stream)>& work, std::shared_ptr<const Graph>* graph) {
  MOE_TRY(use());
  const cudaStream_t recording = state_->recording;
  // Prepare the kernels first: loading one waits for the device, which a capture does not allow.
  MOE_TRY(work({recording, true}));
  MOE_TRY(cuda_status(cudaStreamBeginCapture(recording, cudaStreamCaptureModeThreadLocal), "cudaStreamBeginCapture"));
  const Status worked = guarded([&] { return work(recording); });
  // Also after a failure; otherwise the stream would keep recording.
  cudaGraph_t recorded = nullptr;
  const Status ended = cuda_status(cudaStreamEndCapture(recording, &recorded), "cudaStreamEndCapture");
  const Status status = !worked.ok() ? worked : !ended.ok() ? ended : instantiate(recorded, state_->stream, graph);
  if (recorded != nullptr) cudaGraphDestroy(recorded);
  return status;
}

Status Runtime::launch(const Graph& graph) {
  MOE_TRY(use());
  return cuda_status(cudaGraphLaunch(graph.executable, state_->stream), "cudaGraphLaunch");
}

}  // namespace moe::cuda
