// The runtime of the simulated GPU, which uses host memory. Its stream is the GPU's queue of work.
#include "gpu/runtime/runtime.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstring>
#include <deque>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include "core/host_memory.h"
#include "core/poison.h"
#include "core/whole_number.h"
#include "gpu/gemm/kernels.h"
#include "gpu/runtime/capability.h"
#include "gpu/target/simt/devices.h"
#include "simt/async_draws.h"
#include "simt/gpu.h"

namespace moe::simt {
namespace {

// The alignment of GPU allocations.
constexpr size_t kAlignment = 256;

// So few multiprocessors that persistent kernels iterate their loops, and the capability with most of the instructions
// unless MOE_GPU_CAPABILITY says another.
constexpr gpu::DeviceTraits kTraits{.multiprocessors = 3,
                                    .shared_per_block = 227 * 1024,
                                    .shared_per_multiprocessor = 228 * 1024,
                                    .compute_capability = 89};
constexpr int kLatestCapability = 121;

// MOE_SIMT_MAX_THREADS limits the block size, for tools that cannot track many threads.
Status read_max_threads(const Variables& variables, int* max_threads) {
  const std::string* text = variables.find("MOE_SIMT_MAX_THREADS");
  if (text == nullptr) return {};
  int value = 0;
  if (!read_whole_number(*text, &value) || value < 128 || value > 1024 || value % 32 != 0) {
    return {Code::invalid_argument,
            "MOE_SIMT_MAX_THREADS must be a multiple of 32 from 128 to 1024, got \"" + *text + "\""};
  }
  *max_threads = value;
  return {};
}

Status read_traits(const Variables& variables, gpu::DeviceTraits* traits) {
  *traits = kTraits;
  MOE_TRY(read_max_threads(variables, &traits->max_threads));
  return gpu::read_capability(variables, kLatestCapability, &traits->compute_capability);
}

Options launch_options(const DeviceOptions& options) {
  Options result;
  const unsigned usable = std::thread::hardware_concurrency();
  result.threads = options.threads > 0 ? options.threads : usable > 0 ? static_cast<int>(usable) : 1;
  return result;
}

}  // namespace

struct Graph {
  Recording recording;
};

struct Runtime::State {
  explicit State(const Options& options) : gpu(options) {}

  Gpu gpu;
  bool poison = false;
  gpu::DeviceTraits traits;
  std::string description;
  // The thread whose work is being recorded. Others may use the device meanwhile.
  std::atomic<std::thread::id> recorder;

  // Fails in work that is being recorded, which would be done once and not by every launch of its graph.
  Status check_not_recorded(const char* call) const {
    if (recorder != std::this_thread::get_id()) return {};
    return {Code::internal, std::string(call) + " by work that is being recorded, which may only launch kernels"};
  }
};

Runtime::Runtime(std::unique_ptr<State> state) : state_(std::move(state)) {}
Runtime::~Runtime() = default;

Status Runtime::open(int index, const DeviceOptions& options, std::unique_ptr<Runtime>* runtime) {
  if (index != 0)
    return {Code::device_unavailable,
            "simt: expected index 0, because there is only one, got " + std::to_string(index)};
  Options launches = launch_options(options);
  MOE_TRY(read_variables(options.variables, &launches));
  auto state = std::make_unique<State>(launches);
  state->poison = options.poison;
  MOE_TRY(read_traits(options.variables, &state->traits));
  state->description = "the CUDA kernels run thread for thread on the CPU, " + describe(launches);
  runtime->reset(new Runtime(std::move(state)));
  return {};
}

const gpu::DeviceTraits& Runtime::traits() const { return state_->traits; }
const std::string& Runtime::description() const { return state_->description; }
// The host may not look at memory that work is still to write.
bool Runtime::host_addressable() const { return !state_->gpu.queue().late(); }
Stream Runtime::stream() const { return &state_->gpu; }
Status Runtime::use() { return {}; }

Status Runtime::allocate(size_t bytes, void** data) {
  MOE_TRY(state_->check_not_recorded("allocate"));
  MOE_TRY(HostMemory::of_process().allocate(bytes, kAlignment, data));
  if (!state_->poison) return {};
  Status poisoned = guarded([&] {
    return state_->gpu.queue().submit([fresh = *data, bytes]() -> Status {
      poison_memory(fresh, bytes);
      return {};
    });
  });
  if (!poisoned.ok()) release(std::exchange(*data, nullptr));
  return poisoned;
}

void Runtime::release(void* data) {
  (void)guarded([&] {
    return state_->gpu.queue().submit([data]() -> Status {
      HostMemory::of_process().release(data);
      return {};
    });
  });
}

Status Runtime::fill(void* data, int value, size_t bytes) {
  MOE_TRY(state_->check_not_recorded("fill"));
  return state_->gpu.queue().submit([=]() -> Status {
    std::memset(data, value, bytes);
    return {};
  });
}

Status Runtime::write(void* device, const void* host, size_t bytes) {
  MOE_TRY(state_->check_not_recorded("write"));
  if (!state_->gpu.queue().late()) {
    std::memcpy(device, host, bytes);
    return {};
  }
  const char* begin = static_cast<const char*>(host);
  return state_->gpu.queue().submit([device, copy = std::vector<char>(begin, begin + bytes)]() -> Status {
    std::copy(copy.begin(), copy.end(), static_cast<char*>(device));
    return {};
  });
}

Status Runtime::read(std::span<const Download> downloads) {
  MOE_TRY(state_->check_not_recorded("read"));
  MOE_TRY(state_->gpu.queue().finish());
  for (const Download& each : downloads) std::memcpy(each.host, each.device, each.bytes);
  return {};
}

void Runtime::release_stream() noexcept {}

Status Runtime::pin(void*, size_t) { return {}; }

void Runtime::unpin(void*) {}

Status Runtime::settle(std::function<void()> then) noexcept {
  state_->gpu.queue().run();
  if (then) then();
  return {};
}

Status Runtime::record(const std::function<Status(Stream)>& work, std::shared_ptr<const Graph>* graph) {
  const auto made = std::make_shared<Graph>();
  state_->recorder = std::this_thread::get_id();
  const Status recorded = guarded([&]() -> Status {
    MOE_TRY(work({&state_->gpu, nullptr, true}));
    return work({&state_->gpu, &made->recording});
  });
  state_->recorder = std::thread::id();
  MOE_TRY(recorded);
  *graph = made;
  return {};
}

Status Runtime::launch(const Graph& graph) {
  for (const RecordedLaunch& recorded : graph.recording) {
    MOE_TRY(state_->gpu.enqueue(recorded.launch, recorded.arguments));
  }
  return {};
}

// Copies take effect when work waits for them, or at once, as asynchronous copies within kernels do; always in order.
struct Uploads::State {
  struct Copy {
    void* device;
    const void* host;
    size_t bytes;
  };

  void issue(const Copy& copy) {
    const std::lock_guard lock(mutex);
    copies.push_back(copy);
  }
  size_t issued() {
    const std::lock_guard lock(mutex);
    return done + copies.size();
  }
  // Makes the first `count` copies take effect.
  void complete(size_t count) {
    const std::lock_guard lock(mutex);
    for (; done < count; ++done) {
      const Copy& copy = copies.front();
      std::memcpy(copy.device, copy.host, copy.bytes);
      copies.pop_front();
    }
  }

  WorkQueue* queue = nullptr;
  AsyncMode mode = AsyncMode::late;
  machine::AsyncDraws draws;
  std::mutex mutex;         // of what is below: late work runs on the thread that waits for it
  std::deque<Copy> copies;  // that have not taken effect
  size_t done = 0;          // copies before them
  std::vector<size_t> marks;
};

Uploads::Uploads(std::unique_ptr<State> state) : state_(std::move(state)) {}
Uploads::~Uploads() { state_->queue->run(); }

Status Uploads::create(Runtime& runtime, std::unique_ptr<Uploads>* uploads) {
  auto state = std::make_unique<State>();
  state->queue = &runtime.stream().gpu->queue();
  const simt::Options& options = runtime.stream().gpu->options();
  state->mode = options.async;
  state->draws = machine::AsyncDraws(options.async, options.seed);
  uploads->reset(new Uploads(std::move(state)));
  return {};
}

Status Uploads::copy(void* device, const void* host, size_t bytes) {
  state_->issue({device, host, bytes});
  if (state_->draws.early()) state_->complete(state_->issued());
  return {};
}

// Copies that all take effect late do so in the order of work.
Status Uploads::after_work() {
  if (state_->mode != AsyncMode::late) state_->queue->run();
  return {};
}

Status Uploads::mark(size_t index) {
  if (index >= state_->marks.size()) state_->marks.resize(index + 1);
  state_->marks[index] = state_->issued();
  return {};
}

Status Uploads::before_work(size_t index) {
  return state_->queue->submit([state = state_.get(), count = state_->marks[index]]() -> Status {
    state->complete(count);
    return {};
  });
}

void Uploads::wait() noexcept {
  state_->queue->run();
  state_->complete(state_->issued());
}

struct StageClock::State {
  WorkQueue* queue = nullptr;
  std::array<std::chrono::steady_clock::time_point, kMarks> marks{};
};

StageClock::StageClock(std::unique_ptr<State> state) : state_(std::move(state)) {}
StageClock::~StageClock() { state_->queue->run(); }

Status StageClock::create(Runtime& runtime, std::unique_ptr<StageClock>* clock) {
  auto state = std::make_unique<State>();
  state->queue = &runtime.stream().gpu->queue();
  clock->reset(new StageClock(std::move(state)));
  return {};
}

Status StageClock::mark(int index) {
  return state_->queue->submit([mark = &state_->marks[static_cast<size_t>(index)]]() -> Status {
    *mark = std::chrono::steady_clock::now();
    return {};
  });
}

double StageClock::seconds(int from, int to) const {
  state_->queue->run();
  const auto& marks = state_->marks;
  return std::chrono::duration<double>(marks[static_cast<size_t>(to)] - marks[static_cast<size_t>(from)]).count();
}

std::vector<DeviceSummary> list_devices(const Variables&) {
  return {{"simt", true, "the CUDA kernels, compiled by the host compiler and run thread for thread on the CPU"}};
}

std::vector<KernelDescription> list_kernels(const Variables& variables) {
  gpu::DeviceTraits traits;
  return gpu::describe_kernels("simt", read_traits(variables, &traits).ok() ? &traits : nullptr);
}

}  // namespace moe::simt
