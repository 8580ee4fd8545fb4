// The simulated GPU: checks a launch, then runs its blocks.
#pragma once

#include <memory>
#include <vector>

#include "core/status.h"
#include "simt/launch.h"
#include "simt/options.h"

namespace moe::simt {

namespace machine {
class Multiprocessor;
}

class Gpu {
 public:
  explicit Gpu(const Options& options);
  ~Gpu();

  // Runs the kernel to its end. Blocks run in an order drawn from the seed, and spread over the options' threads. A
  // failure is a report of what the kernel did wrong: kernel, block, thread, call, and what reproduces it.
  Status launch(const machine::Launch& launch);
  const Options& options() const { return options_; }

 private:
  Options options_;
  std::vector<std::unique_ptr<machine::Multiprocessor>> multiprocessors_;
};

struct RecordedLaunch {
  machine::Launch launch;
  std::shared_ptr<const void> arguments;  // what launch.arguments points to
};

using Recording = std::vector<RecordedLaunch>;

// Launches take effect at once, in the order in which they are made, or are put into a recording in place of that.
struct Stream {
  Stream(Gpu* stream_gpu, Recording* stream_recording = nullptr) : gpu(stream_gpu), recording(stream_recording) {}

  Gpu* gpu;
  Recording* recording;
};

}  // namespace moe::simt
