// The runtime of NVIDIA GPUs. cudart is linked statically and looks up the driver on its first call, so a binary that
// contains this also loads on machines without NVIDIA software.
#include "gpu/runtime/runtime.h"

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <functional>
#include <mutex>
#include <utility>
#include <vector>

#include <ptx/launch.cuh>

#include "core/stream.h"
#include "gpu/target/cuda/discovery.h"
#include "gpu/target/cuda/messages.h"
#include "gpu/target/cuda/notices.h"
#include "gpu/target/cuda/on_gpu.h"
#include "gpu/target/cuda/pools.h"
#include "gpu/target/cuda/staging.h"

namespace moe::cuda {
namespace {

MOE_KERNEL(first_kernel, (32), int*) {}

// Loads a kernel. What other processes or the build prevent shows here.
Status begin_use(int index, const Gpu& gpu, const OnGpu& here) {
  const char* what = "cudaSetDevice";
  cudaError_t error = here.error();
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
  if (is_captured(stream)) return captured_stream();
  cudaEvent_t event = nullptr;
  MOE_TRY(cuda_status(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), "cudaEventCreate"));
  const Status recorded = cuda_status(cudaEventRecord(event, stream), "cudaEventRecord");
  cudaEventDestroy(event);
  return recorded.ok() ? recorded : Status{Code::invalid_argument, expected + "another: " + recorded.message};
}

}  // namespace

struct Graph {
  explicit Graph(int on) : device(on) {}
  // CUDA frees it only after the launches in flight are done.
  ~Graph() {
    const OnGpu here(device);
    if (executable != nullptr) cudaGraphExecDestroy(executable);
  }

  const int device;
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

  // Memory to release, which is put off while the caller captures its stream: CUDA takes a release for the graph's
  // then.
  std::mutex kept_mutex;
  std::vector<void*> kept;

  // What is put off until a wait, or until CUDA calls it.
  Notices notices;

  // On the GPU.
  ~State() {
    if (pool != nullptr) Pools::of_process().remove(pool);
    const cudaStream_t last = stream;
    if (last != nullptr) {
      release_kept();
      wait();
    }
    if (last != nullptr && last != given && last != recording) cudaStreamDestroy(last);
    if (recording != nullptr) cudaStreamDestroy(recording);
    if (pool != nullptr) cudaMemPoolDestroy(pool);
  }

  // What work is enqueued behind: the GPU is the thread's, and the stream nobody's recording.
  Status check(const OnGpu& here) const {
    MOE_TRY(here.status());
    return caller_captures() ? captured_stream() : Status();
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

  // Waits for the work enqueued so far, and calls what is put off until then. False if the caller captures the stream.
  bool wait() noexcept {
    if (caller_captures()) return false;
    const Notices::Functions due = notices.take_all();
    cudaStreamSynchronize(stream);
    for (const auto& [number, then] : due) then();
    return true;
  }
};

Runtime::Runtime(std::unique_ptr<State> state) : state_(std::move(state)) {}
Runtime::~Runtime() {
  const OnGpu here(state_->device);
  state_.reset();
}

Status Runtime::open(int index, const DeviceOptions& options, std::unique_ptr<Runtime>* runtime) {
  Gpu gpu;
  MOE_TRY(find_gpu(index, options.variables, &gpu));
  const OnGpu here(index);
  MOE_TRY(begin_use(index, gpu, here));
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
  const OnGpu here(state_->device);
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
  if (!state_->notices.empty()) state_->wait();
}

Status Runtime::use() { return state_->check(OnGpu(state_->device)); }

Status Runtime::allocate(size_t bytes, void** data) {
  const OnGpu here(state_->device);
  MOE_TRY(state_->check(here));
  state_->release_kept();
  const cudaError_t error = with_memory(state_->device, [&] {
    // Even empty memory needs an address.
    return cudaMallocFromPoolAsync(data, std::max<size_t>(bytes, 1), state_->pool, state_->stream);
  });
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
  const OnGpu here(state_->device);
  state_->release(data);
}

Status Runtime::fill(void* data, int value, size_t bytes) {
  if (bytes == 0) return {};
  const OnGpu here(state_->device);
  MOE_TRY(state_->check(here));
  return cuda_status(cudaMemsetAsync(data, value, bytes, state_->stream), "cudaMemsetAsync");
}

Status Runtime::write(void* device, const void* host, size_t bytes) {
  const OnGpu here(state_->device);
  MOE_TRY(state_->check(here));
  return state_->uploads.upload(device, host, bytes, state_->stream);
}

Status Runtime::read(std::span<const Download> downloads) {
  const OnGpu here(state_->device);
  MOE_TRY(state_->check(here));
  MOE_TRY(state_->downloads.download(downloads, state_->stream));
  if (!state_->notices.empty()) state_->wait();
  return {};
}

Status Runtime::pin(void* data, size_t bytes) {
  const OnGpu here(state_->device);
  MOE_TRY(state_->check(here));
  return pin_status(cudaHostRegister(data, bytes, cudaHostRegisterDefault), "cudaHostRegister", bytes);
}

void Runtime::unpin(void* data) {
  const OnGpu here(state_->device);
  cudaHostUnregister(data);
}

Status Runtime::settle(std::function<void()> then) noexcept {
  return guarded([&]() -> Status {
    const OnGpu here(state_->device);
    // The calling thread, which may be JavaScript's, does not wait unless it has to.
    const bool calls = then && !state_->caller_captures();
    if (calls && state_->notices.call_behind(state_->stream, then)) return {};
    if (!state_->wait()) {
      // Without memory to keep it, it is not called.
      if (then) state_->notices.put_off(then);
      return captured_stream();
    }
    if (then) then();
    return {};
  });
}

static Status instantiate(cudaGraph_t recorded, int device, cudaStream_t stream, std::shared_ptr<const Graph>* graph) {
  const auto made = std::make_shared<Graph>(device);
  const auto instantiated =
      with_memory(device, [&] { return cudaGraphInstantiateWithFlags(&made->executable, recorded, 0); });
  MOE_TRY(cuda_status(instantiated, "cudaGraphInstantiate"));
  // Upload now, so that the first launch is as fast as later ones.
  const auto uploaded = with_memory(device, [&] { return cudaGraphUpload(made->executable, stream); });
  MOE_TRY(cuda_status(uploaded, "cudaGraphUpload"));
  *graph = made;
  return {};
}

Status Runtime::record(const std::function<Status(Stream)>& work, std::shared_ptr<const Graph>* graph) {
  const OnGpu here(state_->device);
  MOE_TRY(state_->check(here));
  const cudaStream_t recording = state_->recording;
  // Prepare the kernels first: loading one waits for the device, which a capture does not allow.
  MOE_TRY(work({recording, true}));
  MOE_TRY(cuda_status(cudaStreamBeginCapture(recording, cudaStreamCaptureModeThreadLocal), "cudaStreamBeginCapture"));
  const Status worked = guarded([&] {
    // So that what its replay would lack is an error.
    const CaptureMode strict(cudaStreamCaptureModeThreadLocal);
    return work(recording);
  });
  // Also after a failure; otherwise the stream would keep recording.
  cudaGraph_t recorded = nullptr;
  const Status ended = cuda_status(cudaStreamEndCapture(recording, &recorded), "cudaStreamEndCapture");
  const Status status = !worked.ok()  ? worked
                        : !ended.ok() ? ended
                                      : instantiate(recorded, state_->device, state_->stream, graph);
  if (recorded != nullptr) cudaGraphDestroy(recorded);
  return status;
}

Status Runtime::launch(const Graph& graph) {
  const OnGpu here(state_->device);
  MOE_TRY(state_->check(here));
  return cuda_status(cudaGraphLaunch(graph.executable, state_->stream), "cudaGraphLaunch");
}

}  // namespace moe::cuda
