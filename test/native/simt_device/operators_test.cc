#include <vector>

#include "check.h"
#include "gpu/target/simt/devices.h"

MOE_TEST(operators_run_by_their_descriptions) {
  std::unique_ptr<moe::Backend> backend;
  MOE_CHECK(moe::simt::open(0, {}, &backend).ok());
  const std::vector<float> x = {1.0f, -2.0f, 0.5f, 8.0f};
  const size_t bytes = x.size() * sizeof(float);
  void *source = nullptr, *target = nullptr;
  MOE_CHECK(backend->allocate(bytes, &source).ok());
  MOE_CHECK(backend->allocate(bytes, &target).ok());
  MOE_CHECK(backend->write(source, x.data(), bytes).ok());
  moe::TestScale scale;
  scale.x = {source, moe::DType::f32, 2, {2, 2}};
  scale.factor = 3.0f;
  scale.y = {target, moe::DType::f32, 2, {2, 2}};
  MOE_CHECK(backend->run(scale).ok());
  std::vector<float> y(x.size());
  MOE_CHECK(backend->read(y.data(), target, bytes).ok());
  for (size_t i = 0; i < x.size(); ++i) MOE_CHECK_EQUAL(y[i], 3.0f * x[i]);
  backend->release(source, bytes);
  backend->release(target, bytes);
}

// Kernels count columns in 32 bits, and would count fewer.
MOE_TEST(matrices_with_too_many_columns_are_refused_before_they_take_memory) {
  std::unique_ptr<moe::Backend> backend;
  MOE_CHECK(moe::simt::open(0, {}, &backend).ok());
  std::unique_ptr<moe::PackedExperts> packed;
  const moe::Status status = backend->packed_experts(
      {.experts = 1, .rows = 1, .columns = int64_t{1} << 32, .format = &moe::kBF16Format}, moe::kManyProducts, &packed);
  MOE_CHECK(status.code == moe::Code::invalid_argument);
  MOE_CHECK_EQUAL(status.message,
                  "experts: expected matrices of fewer than 2^30 columns, got 4294967296: split them, and add up the "
                  "results");
}
