// What this machine's GPUs compute, without Node. On a machine without one there is nothing to test.
#include <functional>

#include "core/formats/find_format.h"
#include "gpu/target/cuda/devices.h"
#include "kept_states.h"
#include "quantized_products.h"

namespace {

using namespace moe;

void on_every_gpu(const std::function<void(Backend&)>& test) {
  const std::vector<DeviceSummary> devices = cuda::list_devices({});
  for (size_t i = 0; i < devices.size(); ++i) {
    if (!devices[i].available) continue;
    std::unique_ptr<Backend> backend;
    MOE_CHECK(cuda::open(static_cast<int>(i), {.poison = true}, &backend).ok());
    test(*backend);
  }
}

}  // namespace

MOE_TEST(gpus_multiply_plain_weights_in_tiles_of_every_height) {
  on_every_gpu([](Backend& backend) {
    for (const WeightFormat* format : {&kF32Format, &kF16Format, &kBF16Format}) {
      test::check_products(backend, *format, 37, 31, Activation::none, {2}, 1e-5);
      test::check_products(backend, *format, 150, 200, Activation::swiglu, {140, 40, 8, 1}, 1e-5);
      test::check_products(backend, *format, 3, 2880, Activation::none, {2, 1}, 1e-5);
    }
  });
}

MOE_TEST(gpus_multiply_weights_of_every_quantised_format) {
  on_every_gpu([](Backend& backend) {
    for (const WeightFormat* format : sample_formats()) {
      if (format->plain()) continue;
      for (const TokenFormat tokens : {TokenFormat::none, TokenFormat::int8, TokenFormat::fp8}) {
        test::check_products(backend, *format, 37, 31, Activation::none, {2}, 1e-5, tokens);
        test::check_products(backend, *format, 18, 300, Activation::swiglu, {65, 17, 8, 1}, 1e-5, tokens);
      }
    }
  });
}

MOE_TEST(gpus_run_layers_in_one_call_and_in_several) {
  on_every_gpu([](Backend& backend) {
    for (const LayerDescription& layer : test::kept_layers()) {
      for (const DType x : {DType::f32, DType::bf16}) test::KeptStates(backend, layer, x, 19).check();
    }
  });
}
