// What tests set and see of the CUDA runtime of cuda_runtime.h. It does a stream's work as late as a GPU may, when
// something waits for it, or at once. What CUDA would refuse returns its error; what it would do wrong without a word
// is a problem.
#pragma once

#include <string>
#include <vector>

#include <cuda_runtime.h>

namespace fake {

struct Gpu {
  std::string name = "Fake H100";
  int major = 9, minor = 0;
  size_t memory = size_t{1} << 30;
  bool has_pools = true;
  // What each kernel and each graph takes of the memory.
  size_t kernel_bytes = 0, graph_bytes = 0;
};

// Which streams do their work at once, of every three in the order in which they are made. Others do it late.
enum class Timing { none_early, first_early, second_early, third_early };

// Forgets everything but the kernels, which a process loads once, and has these GPUs and a driver that knows this
// version of CUDA.
void start(std::vector<Gpu> gpus, int driver = 13000, Timing timing = Timing::none_early);

// From here on, every call of this name fails, or every call if it is empty.
void fail(const std::string& call, cudaError_t error);
// The one call number `index` from here on fails, of those that give nothing back and do not wait for that. Whether it
// has come.
void fail_once(int index, cudaError_t error);
bool failed_once();
// No call fails any more.
void succeed();

// Functions of the host that streams are to call are called as late as other work, and not, as they are otherwise, as
// soon as they are given to a stream: a GPU comes to them, even if nothing waits for it.
void call_late();
// Does all work of all streams.
void finish();

// Static shared memory of a kernel.
void set_static_shared(const void* kernel, size_t bytes);
// Reported by kernels of tests: these bytes of the GPU's memory are used.
void use(const void* data, size_t bytes);

// The GPUs that the process has opened, which takes memory of theirs: "0, 1".
std::string opened_gpus();
// What went wrong without an error.
std::vector<std::string> problems();
// What was made and not given back: "2 streams, 1 events"; empty if nothing.
std::string left();

}  // namespace fake
