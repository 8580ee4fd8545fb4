// What is called once a GPU has done the work before.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <utility>

#include <ptx/launch.cuh>

namespace moe::cuda {

// Functions that are called once: by whoever has waited for the work, or by CUDA. Any thread may use it.
class Notices {
 public:
  // By number, in the order in which they were put off.
  using Functions = std::map<uint64_t, std::function<void()>>;

  Notices() = default;
  // On the GPU. Calls those that are left.
  ~Notices() {
    if (stream_ != nullptr) {
      cudaStreamSynchronize(stream_);
      cudaStreamDestroy(stream_);
    }
    if (worked_ != nullptr) cudaEventDestroy(worked_);
    for (const auto& [number, then] : left_) then();
  }
  Notices(const Notices&) = delete;
  Notices& operator=(const Notices&) = delete;

  bool empty() {
    const std::lock_guard lock(mutex_);
    return left_.empty();
  }
  // Keeps `then` for take_all(), and returns its number. Without memory for that, `then` is as it was.
  uint64_t put_off(std::function<void()>& then) {
    const std::lock_guard lock(mutex_);
    left_.emplace(++last_, std::move(then));
    return last_;
  }
  // For a caller that waits for all work enqueued so far, and then calls them.
  Functions take_all() {
    const std::lock_guard lock(mutex_);
    return std::exchange(left_, {});
  }
  // Puts `then` off until CUDA calls it, once the work of `work` so far is done. False if it cannot; then `then` is as
  // it was.
  bool call_behind(cudaStream_t work, std::function<void()>& then) noexcept {
    uint64_t number = 0;
    const Status status = guarded([&] {
      auto notice = std::make_unique<Notice>(*this);
      number = notice->number = put_off(then);
      MOE_TRY(enqueue(work, notice.get()));
      (void)notice.release();
      return Status();
    });
    if (!status.ok() && number != 0) then = take(number);
    // If it is empty now, another thread has waited and called it.
    return status.ok() || !then;
  }

 private:
  struct Notice {
    explicit Notice(Notices& of) : notices(of) {}

    Notices& notices;
    uint64_t number = 0;
  };

  // Empty if another has taken it.
  std::function<void()> take(uint64_t number) {
    const std::lock_guard lock(mutex_);
    const auto found = left_.extract(number);
    return found.empty() ? nullptr : std::move(found.mapped());
  }

  // On a thread of CUDA's, which must neither wait nor call CUDA.
  static void CUDART_CB call(void* data) {
    const std::unique_ptr<Notice> notice(static_cast<Notice*>(data));
    if (const std::function<void()> then = notice->notices.take(notice->number)) then();
  }

  // Not on the stream of the work: what is enqueued there later would wait for the host.
  Status enqueue(cudaStream_t work, Notice* notice) {
    const std::lock_guard lock(stream_mutex_);
    if (worked_ == nullptr) {
      MOE_TRY(cuda_status(cudaEventCreateWithFlags(&worked_, cudaEventDisableTiming), "cudaEventCreate"));
    }
    if (stream_ == nullptr) {
      MOE_TRY(cuda_status(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "cudaStreamCreate"));
    }
    MOE_TRY(cuda_status(cudaEventRecord(worked_, work), "cudaEventRecord"));
    MOE_TRY(cuda_status(cudaStreamWaitEvent(stream_, worked_, 0), "cudaStreamWaitEvent"));
    return cuda_status(cudaLaunchHostFunc(stream_, call, notice), "cudaLaunchHostFunc");
  }

  // CUDA's thread takes it, so nobody calls CUDA under it.
  std::mutex mutex_;
  Functions left_;
  uint64_t last_ = 0;
  // Made when they are first needed.
  std::mutex stream_mutex_;
  cudaStream_t stream_ = nullptr;
  cudaEvent_t worked_ = nullptr;
};

}  // namespace moe::cuda
