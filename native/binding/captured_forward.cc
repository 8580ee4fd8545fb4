#include "binding/captured_forward.h"

#include <utility>

#include "binding/addon.h"
#include "binding/errors.h"

namespace moe::binding {

// Created and used on the stream thread; owns everything that it needs.
struct CapturedForwardObject::Captured {
  std::shared_ptr<Layer> layer;
  Keep keep;
  Status status{Code::internal, "captured forward: the capture did not finish"};
  std::unique_ptr<CapturedForward> forward;  // last: it uses the layer and the memory
};

void CapturedForwardObject::define(Napi::Env env) {
  Addon::of(env).captured_forward =
      Napi::Persistent(DefineClass(env, "CapturedForwardHandle",
                                   {
                                       InstanceMethod<&CapturedForwardObject::replay>("replay"),
                                       InstanceMethod<&CapturedForwardObject::free>("free"),
                                   }));
}

Napi::Object CapturedForwardObject::create(Napi::Object device, std::shared_ptr<Layer> layer, std::vector<Stage> stages,
                                           const LayerForward& forward, Keep keep) {
  const Napi::Env env = device.Env();
  auto captured = std::make_shared<Captured>();
  captured->layer = std::move(layer);
  captured->keep = std::move(keep);
  DeviceObject::Unwrap(device)->enqueue(env, "capture", [captured, stages = std::move(stages), forward] {
    captured->status = captured->layer->capture(stages, forward, &captured->forward);
    return captured->status;
  });
  Napi::Object object = Addon::of(env).captured_forward.New({});
  CapturedForwardObject& result = *Unwrap(object);
  result.device_ = Napi::Persistent(device);
  result.captured_ = std::move(captured);
  return object;
}

void CapturedForwardObject::replay(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  if (captured_ == nullptr) throw_error(env, {Code::disposed, "captured forward: used after dispose()"});
  DeviceObject::Unwrap(device_.Value())->enqueue(env, "replay", [captured = captured_]() -> Status {
    MOE_TRY(captured->status);
    return captured->forward->replay();
  });
}

void CapturedForwardObject::free(const Napi::CallbackInfo&) { captured_.reset(); }

}  // namespace moe::binding
