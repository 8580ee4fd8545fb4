// Copies beside the work, the memory that they read, and clocks, over CUDA's runtime without a GPU.
#if defined(__linux__)
#include <sys/mman.h>
#endif

#include <cstdio>
#include <fstream>

#include "core/pages.h"
#include "support.h"

namespace moe::cuda {

using namespace test;

namespace {
void copy_numbers(const int* from, int* to, int count) {
  fake::use(from, static_cast<size_t>(count) * sizeof(int));
  for (int i = 0; i < count; ++i) to[i] = from[i];
}
}  // namespace

MOE_TEST(uploads_wait_for_work_and_work_waits_for_uploads) {
  at_any_time([](fake::Timing timing) {
    fake::start({{}}, 13000, timing);
    {
      const auto runtime = opened();
      void* slot = nullptr;
      // Its allocation is work that copies must wait for.
      MOE_CHECK(write_numbers(*runtime, {1, 1}, &slot).ok());
      std::unique_ptr<Uploads> uploads;
      MOE_CHECK(Uploads::create(*runtime, &uploads).ok());
      PinnedMemory host(*runtime);
      MOE_CHECK(host.reserve(16).ok());
      MOE_CHECK(host.pin().ok());
      MOE_CHECK(host.pin().ok());
      int* numbers = reinterpret_cast<int*>(host.at(0));
      numbers[0] = 5, numbers[1] = 6;
      numbers[2] = 50, numbers[3] = 60;

      std::vector<int> results(2);
      MOE_CHECK(uploads->after_work().ok());
      MOE_CHECK(uploads->copy(slot, numbers, 8).ok());
      MOE_CHECK(uploads->mark(3).ok());
      MOE_CHECK(uploads->before_work(3).ok());
      MOE_CHECK(launch_add(slot, 2, 1, runtime->stream()).ok());
      void* seen = nullptr;
      MOE_CHECK(runtime->allocate(8, &seen).ok());
      MOE_CHECK(launch("copy", copy_numbers, dim3(1), dim3(1), 0, runtime->stream(), static_cast<const int*>(slot),
                       static_cast<int*>(seen), 2)
                    .ok());
      // The next copy overwrites what that work reads, and takes the mark for itself.
      MOE_CHECK(uploads->after_work().ok());
      MOE_CHECK(uploads->copy(slot, numbers + 2, 8).ok());
      MOE_CHECK(uploads->mark(3).ok());
      MOE_CHECK(runtime->read(results.data(), seen, 8).ok());
      MOE_CHECK(results == std::vector<int>({6, 7}));
      MOE_CHECK(uploads->before_work(3).ok());
      MOE_CHECK(runtime->read(results.data(), slot, 8).ok());
      MOE_CHECK(results == std::vector<int>({50, 60}));
      MOE_CHECK(uploads->copy(slot, numbers, 8).ok());
      uploads->wait();
      MOE_CHECK_EQUAL(*static_cast<int*>(slot), 5);
      uploads.reset();
      runtime->release(slot);
      runtime->release(seen);
    }
    check_clean();
  });
}

namespace {

// What Linux says of a page of the process: "dc" among it if a child does not get it.
std::string flags_of(const void* data) {
  const auto address = reinterpret_cast<uintptr_t>(data);
  std::ifstream maps("/proc/self/smaps");
  bool inside = false;
  for (std::string line; std::getline(maps, line);) {
    unsigned long begin = 0, end = 0;
    if (std::sscanf(line.c_str(), "%lx-%lx ", &begin, &end) == 2) inside = begin <= address && address < end;
    if (inside && line.starts_with("VmFlags:")) return line + " ";
  }
  return "";
}

// Not where there is no Linux, or only one that is emulated.
bool tells_flags() {
#if defined(__linux__)
  const size_t bytes = page_size();
  void* data = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  madvise(data, bytes, MADV_DONTFORK);
  const std::string flags = flags_of(data);
  munmap(data, bytes);
  return flags.find(" dc ") != std::string::npos;
#else
  return false;
#endif
}

}  // namespace

MOE_TEST(a_child_process_gets_none_of_the_pages_that_a_gpu_reads) {
  fake::start({{}});
  {
    const auto runtime = opened();
    PinnedMemory host(*runtime);
    MOE_CHECK(host.reserve(100).ok());
    if (!tells_flags()) return;
    MOE_CHECK(flags_of(host.at(0)).find(" dc ") == std::string::npos);
    fake::fail("cudaHostRegister", cudaErrorMemoryAllocation);
    MOE_CHECK(host.pin().code == Code::out_of_memory);
    MOE_CHECK(flags_of(host.at(0)).find(" dc ") == std::string::npos);
    fake::succeed();
    MOE_CHECK(host.pin().ok());
    MOE_CHECK(flags_of(host.at(0)).find(" dc ") != std::string::npos);
  }
  check_clean();
}

namespace {
void nothing() {}
}  // namespace

MOE_TEST(times_are_those_between_marks) {
  fake::start({{}});
  {
    const auto runtime = opened();
    std::unique_ptr<StageClock> clock;
    MOE_CHECK(StageClock::create(*runtime, &clock).ok());
    MOE_CHECK_EQUAL(clock->seconds(0, 1), 0.0);
    MOE_CHECK(clock->mark(0).ok());
    MOE_CHECK(launch("nothing", nothing, dim3(1), dim3(1), 0, runtime->stream()).ok());
    MOE_CHECK(clock->mark(1).ok());
    MOE_CHECK_EQUAL(static_cast<float>(clock->seconds(0, 1)), 1e-3f);
  }
  check_clean();
}

}  // namespace moe::cuda
