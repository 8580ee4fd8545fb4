// Where launches report bad data, tested on a runtime that counts what the host waits for.
#include "gpu/runtime/data_errors.h"

#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "check.h"

namespace moe::simt {

namespace {

// Reading is what makes the host wait.
struct Counts {
  int reads = 0;
  int allocations = 0;
  int room = 100;  // allocations until memory runs out
} counts;

}  // namespace

// Device memory is host memory here.
struct Runtime::State {};

Runtime::Runtime(std::unique_ptr<State> state) : state_(std::move(state)) {}
Runtime::~Runtime() = default;

Status Runtime::open(int, const DeviceOptions&, std::unique_ptr<Runtime>* runtime) {
  counts = {};
  runtime->reset(new Runtime(std::make_unique<State>()));
  return {};
}

Status Runtime::allocate(size_t bytes, void** data) {
  if (counts.allocations == counts.room) return {Code::out_of_memory, "no room"};
  ++counts.allocations;
  *data = std::malloc(bytes);
  return {};
}

void Runtime::release(void* data) {
  --counts.allocations;
  std::free(data);
}

Status Runtime::fill(void* data, int value, size_t bytes) {
  std::memset(data, value, bytes);
  return {};
}

Status Runtime::read(std::span<const Download> downloads) {
  ++counts.reads;
  for (const Download& each : downloads) std::memcpy(each.host, each.device, each.bytes);
  return {};
}

namespace test {

// What a kernel does when it finds `value` at `position`.
void find(gpu::IdError* error, uint64_t position, int value) {
  error->first = position << 32 | static_cast<uint32_t>(value);
}

struct Launches {
  Launches() {
    MOE_CHECK(Runtime::open(0, {}, &runtime).ok());
    errors = std::make_unique<DataErrors>(*runtime);
    MOE_CHECK(errors->open().ok());
  }
  ~Launches() {
    errors.reset();
    MOE_CHECK_EQUAL(counts.allocations, 0);
  }

  gpu::IdError* next(int64_t limit) {
    return errors->next({.parameter = "sort: ids", .what = "an expert", .limit = limit, .columns = 0});
  }
  std::string collect() { return errors->collect(warnings).message; }

  std::unique_ptr<Runtime> runtime;
  std::unique_ptr<DataErrors> errors;
  Warnings warnings;
};

MOE_TEST(launches_never_wait_for_those_before_them) {
  Launches launches;
  std::vector<gpu::IdError*> places;
  for (int i = 0; i < 5000; ++i) places.push_back(launches.next(i + 1));
  MOE_CHECK_EQUAL(counts.reads, 0);
  for (const int launch : {4000, 1023, 2500}) find(places[static_cast<size_t>(launch)], 3, -7);
  MOE_CHECK_EQUAL(launches.collect(), "sort: ids[3]: expected -1 or an expert from 0 to 1023, got -7");
  // The first in launch order is reported, and nothing is left of the others.
  MOE_CHECK_EQUAL(launches.collect(), "");
  MOE_CHECK_EQUAL(counts.allocations, 1);
}

MOE_TEST(the_host_waits_once_for_data_and_their_errors) {
  Launches launches;
  for (int i = 0; i < 1500; ++i) launches.next(8);
  find(launches.next(8), 2, 9);
  const int data = 5;
  int copy = 0;
  const Status status = launches.errors->collect(launches.warnings, {&copy, &data, sizeof data});
  MOE_CHECK_EQUAL(status.message, "sort: ids[2]: expected -1 or an expert from 0 to 7, got 9");
  MOE_CHECK_EQUAL(copy, 5);
  MOE_CHECK_EQUAL(counts.reads, 1);
}

MOE_TEST(places_are_used_again_after_each_collect) {
  Launches launches;
  for (int round = 0; round < 3; ++round) {
    for (int i = 0; i < 1500; ++i) {
      gpu::IdError* error = launches.next(8);
      MOE_CHECK(error->first == gpu::kNoIdError);
      if (i == 1100) find(error, 0, 9);
    }
    MOE_CHECK_EQUAL(launches.collect(), "sort: ids[0]: expected -1 or an expert from 0 to 7, got 9");
  }
}

MOE_TEST(memory_that_is_out_is_reported_by_collect) {
  Launches launches;
  counts.room = 1;
  for (int i = 0; i < 1023; ++i) launches.next(8);
  find(launches.next(8), 0, 9);
  MOE_CHECK_EQUAL(launches.collect(), "no room");
  find(launches.next(8), 1, 10);
  MOE_CHECK_EQUAL(launches.collect(), "sort: ids[1]: expected -1 or an expert from 0 to 7, got 10");
}

MOE_TEST(rows_without_a_finite_logit_are_counted_over_all_collects) {
  Launches launches;
  *launches.errors->non_finite_rows() += 2;
  MOE_CHECK_EQUAL(launches.collect(), "");
  *launches.errors->non_finite_rows() += 3;
  for (int i = 0; i < 2000; ++i) launches.next(1);
  MOE_CHECK_EQUAL(launches.collect(), "");
  MOE_CHECK_EQUAL(launches.warnings.non_finite_logit_rows, 5);
}

}  // namespace test

}  // namespace moe::simt
