// The runtime of the cuda device while an engine in the process captures streams of its own, or the one that it gave.
#include <future>
#include <optional>
#include <thread>

#include "support.h"

namespace moe::cuda {

using namespace test;

namespace {

// Captures a stream in CUDA's default mode until end(), on the thread that makes it.
class Capture {
 public:
  explicit Capture(unsigned flags = cudaStreamNonBlocking) {
    MOE_CHECK_EQUAL(cudaSetDevice(0), cudaSuccess);
    MOE_CHECK_EQUAL(cudaStreamCreateWithFlags(&stream_, flags), cudaSuccess);
    MOE_CHECK_EQUAL(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeGlobal), cudaSuccess);
  }
  void end() {
    cudaGraph_t graph = nullptr;
    MOE_CHECK_EQUAL(cudaStreamEndCapture(stream_, &graph), cudaSuccess);
    if (graph != nullptr) MOE_CHECK_EQUAL(cudaGraphDestroy(graph), cudaSuccess);
    MOE_CHECK_EQUAL(cudaStreamDestroy(stream_), cudaSuccess);
  }

 private:
  cudaStream_t stream_ = nullptr;
};

// Calls work() while another thread captures.
template <class Work>
void beside_capture(Work&& work) {
  std::promise<void> begun, done;
  std::thread engine([&] {
    Capture capture;
    begun.set_value();
    done.get_future().wait();
    capture.end();
  });
  begun.get_future().wait();
  work();
  done.set_value();
  engine.join();
}

// Of one test each, so that no other has loaded it.
template <int>
void unloaded() {}

// Everything, with a kernel that is not loaded and memory that runs out.
template <int kTest>
void use_runtime() {
  MOE_CHECK_EQUAL(use_all(0).message, "");
  const auto runtime = opened();
  if (runtime == nullptr) return;
  MOE_CHECK_EQUAL(launch("unloaded", unloaded<kTest>, dim3(1), dim3(1), 1024, runtime->stream()).message, "");
  void* data = nullptr;
  for (int i = 0; i < 2; ++i) {
    MOE_CHECK_EQUAL(runtime->allocate((size_t{40} + static_cast<size_t>(i)) << 20, &data).message, "");
    runtime->release(data);
  }
  MOE_CHECK(runtime->allocate(size_t{65} << 20, &data).code == Code::out_of_memory);
  MOE_CHECK_EQUAL(runtime->settle().message, "");
  runtime->release_stream();
}

}  // namespace

MOE_TEST(a_capture_on_another_thread_goes_on_and_so_does_the_runtime) {
  fake::start({{.memory = size_t{64} << 20}});
  beside_capture(use_runtime<0>);
  check_clean();
}

MOE_TEST(a_capture_on_the_same_thread_goes_on_and_so_does_the_runtime) {
  fake::start({{.memory = size_t{64} << 20}});
  Capture capture;
  use_runtime<1>();
  capture.end();
  check_clean();
}

MOE_TEST(a_recording_is_strict_while_others_capture) {
  fake::start({{}});
  beside_capture([] {
    const auto runtime = opened();
    if (runtime == nullptr) return;
    std::shared_ptr<const Graph> graph;
    const auto loads_late = [&](Stream stream) {
      return stream.only_prepares ? Status() : launch("unloaded", unloaded<2>, dim3(1), dim3(1), 0, stream);
    };
    MOE_CHECK(runtime->record(loads_late, &graph).code == Code::cuda_error);
    MOE_CHECK(graph == nullptr);
    const auto loads_early = [](Stream stream) { return launch("unloaded", unloaded<2>, dim3(1), dim3(1), 0, stream); };
    MOE_CHECK_EQUAL(runtime->record(loads_early, &graph).message, "");
  });
  check_clean();
}

MOE_TEST(memory_is_given_back_while_another_thread_records) {
  fake::start({{.memory = size_t{64} << 20}});
  {
    const auto runtime = opened();
    void* data = nullptr;
    MOE_CHECK(runtime->allocate(size_t{40} << 20, &data).ok());
    runtime->release(data);
    std::shared_ptr<const Graph> graph;
    const auto work = [&](Stream stream) {
      if (stream.only_prepares) return Status();
      std::thread([&] {
        void* other = nullptr;
        MOE_CHECK_EQUAL(runtime->allocate(size_t{41} << 20, &other).message, "");
        runtime->release(other);
      }).join();
      return Status();
    };
    MOE_CHECK_EQUAL(runtime->record(work, &graph).message, "");
  }
  check_clean();
}

MOE_TEST(threads_open_no_gpu_but_the_devices) {
  fake::start({{}, {}});
  // A thread of its own each, whose GPU is the first one at the beginning.
  const auto on_thread = [](auto work) { std::thread(work).join(); };
  std::unique_ptr<Runtime> runtime;
  std::unique_ptr<Uploads> uploads;
  std::unique_ptr<StageClock> clock;
  std::shared_ptr<const Graph> graph;
  void* data = nullptr;
  on_thread([&] { runtime = opened(1); });
  on_thread([&] { MOE_CHECK(write_numbers(*runtime, {1}, &data).ok()); });
  on_thread([&] { MOE_CHECK(Uploads::create(*runtime, &uploads).ok()); });
  on_thread([&] { MOE_CHECK(StageClock::create(*runtime, &clock).ok()); });
  on_thread([&] { MOE_CHECK(runtime->record([](Stream) { return Status(); }, &graph).ok()); });
  on_thread([&] { graph.reset(); });
  on_thread([&] { MOE_CHECK_EQUAL(clock->seconds(0, 1), 0.0); });
  on_thread([&] { clock.reset(); });
  on_thread([&] { uploads.reset(); });
  on_thread([&] { runtime->release(data); });
  on_thread([&] { MOE_CHECK(runtime->settle().ok()); });
  on_thread([&] { runtime.reset(); });
  MOE_CHECK_EQUAL(fake::opened_gpus(), "1");
  check_clean();
}

MOE_TEST(the_legacy_stream_is_not_used_while_a_capture_would_have_to_wait_for_it) {
  fake::start({{}});
  Capture capture(cudaStreamDefault);
  std::unique_ptr<Runtime> runtime;
  MOE_CHECK(Runtime::open(0, {.stream = cudaStreamLegacy}, &runtime).code == Code::unsupported_operation);
  capture.end();
  check_clean();
}

MOE_TEST(a_fault_is_told_on_a_stream_of_the_callers_too) {
  fake::start({{}});
  cudaStream_t given = nullptr;
  MOE_CHECK_EQUAL(cudaStreamCreateWithFlags(&given, cudaStreamNonBlocking), cudaSuccess);
  {
    const auto runtime = opened(0, {.stream = given});
    void* data = nullptr;
    MOE_CHECK(write_numbers(*runtime, {1}, &data).ok());
    fake::fail("cudaStreamIsCapturing", cudaErrorIllegalAddress);
    MOE_CHECK(runtime->use().ok());
    fake::fail("", cudaErrorIllegalAddress);
    MOE_CHECK(runtime->fill(data, 0, 4).code == Code::cuda_error);
    fake::succeed();
    runtime->release(data);
  }
  MOE_CHECK_EQUAL(cudaStreamDestroy(given), cudaSuccess);
  check_clean();
}

namespace {

// A stream of the caller's, a runtime on it, and an owner of memory who waits for its work.
struct Captured {
  Captured() {
    MOE_CHECK_EQUAL(cudaStreamCreateWithFlags(&given, cudaStreamNonBlocking), cudaSuccess);
    runtime = opened(0, {.stream = given});
    MOE_CHECK(write_numbers(*runtime, {1}, &data).ok());
    MOE_CHECK_EQUAL(cudaStreamBeginCapture(given, cudaStreamCaptureModeThreadLocal), cudaSuccess);
    const Status status = runtime->settle([this] { told = true; });
    MOE_CHECK(status.code == Code::unsupported_operation);
    MOE_CHECK_EQUAL(status.message.find("stream: expected one that nobody captures"), 0u);
    MOE_CHECK(!told);
  }
  void end() {
    cudaGraph_t graph = nullptr;
    MOE_CHECK_EQUAL(cudaStreamEndCapture(given, &graph), cudaSuccess);
    MOE_CHECK_EQUAL(cudaGraphDestroy(graph), cudaSuccess);
  }
  ~Captured() {
    if (runtime != nullptr) runtime->release(data);
    runtime.reset();
    MOE_CHECK(told);
    MOE_CHECK_EQUAL(cudaStreamDestroy(given), cudaSuccess);
  }

  cudaStream_t given = nullptr;
  std::unique_ptr<Runtime> runtime;
  void* data = nullptr;
  bool told = false;
};

}  // namespace

MOE_TEST(owners_of_memory_are_told_at_the_first_wait_after_a_capture) {
  fake::start({{}});
  using Wait = void (*)(Captured&);
  for (const Wait wait : {Wait([](Captured& c) { MOE_CHECK(c.runtime->settle().ok()); }), Wait([](Captured& c) {
                            int number = 0;
                            MOE_CHECK(c.runtime->read(&number, c.data, sizeof number).ok());
                            MOE_CHECK_EQUAL(number, 1);
                          }),
                          Wait([](Captured& c) { c.runtime->release_stream(); })}) {
    Captured captured;
    captured.end();
    MOE_CHECK(!captured.told);
    wait(captured);
    MOE_CHECK(captured.told);
  }
  check_clean();
}

MOE_TEST(a_runtime_that_goes_while_its_stream_is_captured_leaves_the_capture_alone) {
  fake::start({{}});
  {
    Captured captured;
    captured.runtime->release(captured.data);
    captured.runtime.reset();
    MOE_CHECK(captured.told);
    captured.end();
  }
  MOE_CHECK_EQUAL(text(fake::problems()), "");
}

}  // namespace moe::cuda
