#include "binding/captured_forward.h"

#include <utility>

#include "binding/addon.h"
#include "binding/errors.h"

namespace moe::binding {

// Created and used on the stream thread; owns everything that it needs.
struct CapturedForwardObject::Captured final : Content {
  std::shared_ptr<Layer> layer;
  std::shared_ptr<void> held_experts;
  Uses uses;
  std::unique_ptr<CapturedForward> forward;  // last: it uses the layer and the memory
};

void CapturedForwardObject::define(Napi::Env env) {
  const std::vector<PropertyDescriptor> members = {
      InstanceMethod<&CapturedForwardObject::replay>("replay"),
      InstanceMethod<&CapturedForwardObject::free>("free"),
  };
  Addon::of(env).captured_forward = Napi::Persistent(DefineClass(env, members));
}

Napi::Object CapturedForwardObject::create(Napi::Object device, std::shared_ptr<Layer> layer, std::vector<Stage> stages,
                                           const LayerForward& forward, Uses uses) {
  const Napi::Env env = device.Env();
  auto captured = std::make_shared<Captured>();
  check(env, layer->hold_experts(&captured->held_experts));
  captured->layer = std::move(layer);
  captured->uses = std::move(uses);
  // A replay computes with the weights that the layer has by then.
  captured->uses.reads(captured->layer, kWhole);
  Uses capture;
  capture.reads(captured->layer, kWhole);
  capture.writes(captured, kWhole);
  DeviceObject::Unwrap(device)->enqueue(
      env, "capture",
      [captured = captured.get(), stages = std::move(stages), forward] {
        return captured->layer->capture(stages, forward, &captured->forward);
      },
      std::move(capture));
  Napi::Object object = Addon::of(env).captured_forward.New({});
  CapturedForwardObject& result = *Unwrap(object);
  result.device_ = Napi::Persistent(device);
  result.captured_ = std::move(captured);
  return object;
}

void CapturedForwardObject::replay(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  if (captured_ == nullptr) throw_error(env, {Code::disposed, "captured forward: used after dispose()"});
  Uses uses = captured_->uses;
  uses.reads(captured_, kWhole);
  DeviceObject::Unwrap(device_.Value())
      ->enqueue(
          env, "replay", [captured = captured_.get()] { return captured->forward->replay(); }, std::move(uses));
}

void CapturedForwardObject::free(const Napi::CallbackInfo&) { captured_.reset(); }

}  // namespace moe::binding
