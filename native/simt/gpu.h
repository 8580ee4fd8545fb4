// The simulated GPU: checks a launch, then runs its blocks.
#pragma once

#include <memory>
#include <set>
#include <vector>

#include "core/status.h"
#include "simt/bank_conflicts.h"
#include "simt/launch.h"
#include "simt/options.h"
#include "simt/work_queue.h"

namespace moe::simt {

namespace machine {
class Multiprocessor;
}

struct RecordedLaunch {
  machine::Launch launch;
  std::shared_ptr<const void> arguments;  // what launch.arguments points to
};

using Recording = std::vector<RecordedLaunch>;

class Gpu {
 public:
  explicit Gpu(const Options& options);
  ~Gpu();

  // Prepares a kernel, as its first launch does. Like a GPU, the machine cannot do so while it records.
  void prepare(const machine::Launch& launch) { prepared_.insert(launch.function); }
  Status record(const machine::Launch& launch, std::shared_ptr<const void> arguments, Recording& recording) const;

  // Launches in the order of the stream's other work.
  Status enqueue(const machine::Launch& launch, std::shared_ptr<const void> arguments);
  WorkQueue& queue() { return queue_; }

  // Runs the kernel to completion. Blocks run in an order drawn from the seed, spread over the options' threads. A
  // failure reports what the kernel did wrong: kernel, block, thread, call, and how to reproduce it.
  Status launch(const machine::Launch& launch);
  const Options& options() const { return options_; }
  // Of the last launch, where the options ask for them.
  const machine::ConflictCounts& bank_conflicts() const { return conflicts_; }

 private:
  void collect_conflicts(const char* kernel);

  Options options_;
  std::set<const void*> prepared_;  // kernels
  machine::ConflictCounts conflicts_;
  std::vector<std::unique_ptr<machine::Multiprocessor>> multiprocessors_;
  WorkQueue queue_;
};

// Launches are enqueued, unless they are being recorded.
struct Stream {
  Stream(Gpu* stream_gpu, Recording* stream_recording = nullptr, bool prepares = false)
      : gpu(stream_gpu), recording(stream_recording), only_prepares(prepares) {}

  Gpu* gpu;
  Recording* recording;
  // Launches only prepare their kernels.
  bool only_prepares;
};

}  // namespace moe::simt
