// Copies of experts beside the work, and clocks of stages: streams and events on NVIDIA GPUs.
#include <array>
#include <vector>

#include <ptx/launch.cuh>

#include "gpu/runtime/runtime.h"
#include "gpu/target/cuda/on_gpu.h"

namespace moe::cuda {

struct Uploads::State {
  int device = 0;
  cudaStream_t work = nullptr;
  cudaStream_t copies = nullptr;
  cudaEvent_t worked = nullptr;
  std::vector<cudaEvent_t> marks;

  // On the GPU.
  ~State() {
    if (copies != nullptr) {
      cudaStreamSynchronize(copies);
      cudaStreamDestroy(copies);
    }
    if (worked != nullptr) cudaEventDestroy(worked);
    for (const cudaEvent_t mark : marks) cudaEventDestroy(mark);
  }
};

Uploads::Uploads(std::unique_ptr<State> state) : state_(std::move(state)) {}
Uploads::~Uploads() {
  const OnGpu here(state_->device);
  state_.reset();
}

Status Uploads::create(Runtime& runtime, std::unique_ptr<Uploads>* uploads) {
  MOE_TRY(runtime.use());
  int device = 0;
  MOE_TRY(cuda_status(cudaGetDevice(&device), "cudaGetDevice"));
  const OnGpu here(device);
  auto state = std::make_unique<State>();
  state->device = device;
  state->work = runtime.stream().handle;
  MOE_TRY(cuda_status(cudaStreamCreateWithFlags(&state->copies, cudaStreamNonBlocking), "cudaStreamCreate"));
  MOE_TRY(cuda_status(cudaEventCreateWithFlags(&state->worked, cudaEventDisableTiming), "cudaEventCreate"));
  uploads->reset(new Uploads(std::move(state)));
  return {};
}

Status Uploads::copy(void* device, const void* host, size_t bytes) {
  return cuda_status(cudaMemcpyAsync(device, host, bytes, cudaMemcpyHostToDevice, state_->copies), "cudaMemcpyAsync");
}

Status Uploads::after_work() {
  MOE_TRY(cuda_status(cudaEventRecord(state_->worked, state_->work), "cudaEventRecord"));
  return cuda_status(cudaStreamWaitEvent(state_->copies, state_->worked, 0), "cudaStreamWaitEvent");
}

// An event that is recorded again does not change what waits for it already.
Status Uploads::mark(size_t index) {
  while (state_->marks.size() <= index) {
    const OnGpu here(state_->device);
    state_->marks.reserve(state_->marks.size() + 1);
    cudaEvent_t made = nullptr;
    MOE_TRY(cuda_status(cudaEventCreateWithFlags(&made, cudaEventDisableTiming), "cudaEventCreate"));
    state_->marks.push_back(made);
  }
  return cuda_status(cudaEventRecord(state_->marks[index], state_->copies), "cudaEventRecord");
}

Status Uploads::before_work(size_t index) {
  return cuda_status(cudaStreamWaitEvent(state_->work, state_->marks[index], 0), "cudaStreamWaitEvent");
}

// An error of the copies is that of the work that waits for them too.
void Uploads::wait() noexcept {
  const OnGpu here(state_->device);
  cudaStreamSynchronize(state_->copies);
}

struct StageClock::State {
  int device = 0;
  cudaStream_t stream = nullptr;
  std::array<cudaEvent_t, kMarks> marks{};

  // On the GPU.
  ~State() {
    for (const cudaEvent_t mark : marks) {
      if (mark != nullptr) cudaEventDestroy(mark);
    }
  }
};

StageClock::StageClock(std::unique_ptr<State> state) : state_(std::move(state)) {}
StageClock::~StageClock() {
  const OnGpu here(state_->device);
  state_.reset();
}

Status StageClock::create(Runtime& runtime, std::unique_ptr<StageClock>* clock) {
  MOE_TRY(runtime.use());
  int device = 0;
  MOE_TRY(cuda_status(cudaGetDevice(&device), "cudaGetDevice"));
  const OnGpu here(device);
  auto state = std::make_unique<State>();
  state->device = device;
  state->stream = runtime.stream().handle;
  for (cudaEvent_t& mark : state->marks) MOE_TRY(cuda_status(cudaEventCreate(&mark), "cudaEventCreate"));
  clock->reset(new StageClock(std::move(state)));
  return {};
}

Status StageClock::mark(int index) {
  return cuda_status(cudaEventRecord(state_->marks[index], state_->stream), "cudaEventRecord");
}

double StageClock::seconds(int from, int to) const {
  const OnGpu here(state_->device);
  float milliseconds = 0.0f;
  cudaError_t error = cudaEventSynchronize(state_->marks[to]);
  if (error == cudaSuccess) error = cudaEventElapsedTime(&milliseconds, state_->marks[from], state_->marks[to]);
  return error == cudaSuccess ? milliseconds * 1e-3 : 0.0;
}

}  // namespace moe::cuda
