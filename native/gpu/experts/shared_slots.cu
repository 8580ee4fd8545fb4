#include "gpu/experts/shared_slots.cuh"

#include <ptx/launch.cuh>

#include "gpu/operators.h"
#include "gpu/plan/plan.h"
#include "gpu/tile/checked_id.cuh"
#include "gpu/tile/loops.cuh"

namespace moe::MOE_GPU_NAMESPACE {
namespace {

// One thread per slot.
MOE_KERNEL(shared_slots_kernel, (gpu::kRowThreads), const SharedSlotsArguments a) { fill_shared_slots(a); }

struct GradientArguments {
  const float* weights;
  const float* gate;
  const float* slot_gradient;
  float* gradient;
  float* gate_gradient;
  int64_t tokens, choices, slots, gate_outputs;
};

// One thread per token.
MOE_KERNEL(shared_slots_backward_kernel, (gpu::kRowThreads), const GradientArguments a) {
  for_each_item(a.tokens, [&](int64_t token) {
    const SharedSlotGradients gradients{
        .weights = a.weights + token * a.choices,
        .gate = a.gate + token * a.gate_outputs,
        .slot_gradient = a.slot_gradient + token * a.slots,
        .gradient = a.gradient + token * a.choices,
        .gate_gradient = a.gate_gradient == nullptr ? nullptr : a.gate_gradient + token * a.gate_outputs,
        .choices = a.choices,
        .slots = a.slots,
        .gate_outputs = a.gate_outputs};
    gradients.run();
  });
}

}  // namespace

SharedSlotsArguments shared_slots_arguments(const SharedSlots& p, gpu::IdError* error) {
  return {.ids = p.ids.as<int>(),
          .weights = p.weights.as<float>(),
          .gate = p.gate.as<float>(),
          .slot_ids = p.slot_ids.as<int>(),
          .slot_weights = p.slot_weights.as<float>(),
          .error = error,
          .slots = p.slot_ids.size(),
          .top_k = static_cast<int>(p.ids.shape[1]),
          .slots_per_token = static_cast<int>(p.slot_ids.shape[1]),
          .gate_outputs = static_cast<int>(gate_outputs(p.gate)),
          .experts = static_cast<int>(p.experts),
          .bank_first = static_cast<int>(p.bank_first),
          .bank_count = static_cast<int>(p.bank_count)};
}

Status launch_shared_slots(const SharedSlotsArguments& arguments, const gpu::DeviceTraits& traits, Stream stream) {
  return launch("shared_slots", shared_slots_kernel, dim3(gpu::element_grid(arguments.slots, traits)),
                dim3(gpu::kRowThreads), 0, stream, arguments);
}

Status run(Context& context, const SharedSlots& p) {
  gpu::IdError* error = context.errors.next(
      {.parameter = "sharedSlots: ids", .what = "an expert", .limit = p.experts, .columns = p.ids.shape[1]});
  return launch_shared_slots(shared_slots_arguments(p, error), context.traits(), context.stream());
}

Status run(Context& context, const SharedSlotsBackward& p) {
  const GradientArguments arguments{.weights = p.weights.as<float>(),
                                    .gate = p.gate.as<float>(),
                                    .slot_gradient = p.d_slot_weights.as<float>(),
                                    .gradient = p.d_weights.as<float>(),
                                    .gate_gradient = p.d_gate.as<float>(),
                                    .tokens = p.tokens(),
                                    .choices = p.weights.shape[1],
                                    .slots = p.d_slot_weights.shape[1],
                                    .gate_outputs = gate_outputs(p.gate)};
  return launch("shared_slots_backward", shared_slots_backward_kernel,
                dim3(gpu::element_grid(arguments.tokens, context.traits())), dim3(gpu::kRowThreads), 0,
                context.stream(), arguments);
}

}  // namespace moe::MOE_GPU_NAMESPACE
