// A layer's weights and its fused stages, as JavaScript holds them.
#pragma once

#include <memory>
#include <vector>

#include "binding/device.h"
#include "binding/napi_setup.h"

namespace moe::binding {

LayerDescription layer_description(Napi::Env env, Napi::Object given);

class LayerObject : public Napi::ObjectWrap<LayerObject> {
 public:
  static void define(Napi::Env env);
  static Napi::Object create(Napi::Object device, DeviceObject& owner, const Napi::CallbackInfo& info);

  explicit LayerObject(const Napi::CallbackInfo& info) : ObjectWrap(info) {}
  void Finalize(Napi::BasicEnv env) override;

 private:
  const std::shared_ptr<Layer>& layer(Napi::Env env) const;
  DeviceObject& device() const;
  // Enqueues a run of stages. `keep` owns the memory of the forward's tensors.
  void enqueue(Napi::Env env, std::vector<Stage> stages, const LayerForward& forward, Keep keep);
  // Enqueues a call of the layer's member function `run`. `keep` owns the memory of its arguments.
  template <class... Parameters, class... Arguments>
  void enqueue(Napi::Env env, Status (Layer::*run)(Parameters...), Keep keep, Arguments... arguments) {
    device().enqueue(env, "a layer", [target = layer(env), run, keep = std::move(keep), arguments...] {
      return (target.get()->*run)(arguments...);
    });
  }
  void release(Napi::BasicEnv env);
  void set_router(const Napi::CallbackInfo& info);
  void set_selection_bias(const Napi::CallbackInfo& info);
  void set_shared_gate(const Napi::CallbackInfo& info);
  void logits(const Napi::CallbackInfo& info);
  void set_expert(const Napi::CallbackInfo& info);
  void route(const Napi::CallbackInfo& info);
  void forward(const Napi::CallbackInfo& info);
  Napi::Value capture(const Napi::CallbackInfo& info);
  Napi::Value stage_times(const Napi::CallbackInfo& info);
  Napi::Value byte_length(const Napi::CallbackInfo& info);
  Napi::Value parts(const Napi::CallbackInfo& info);
  Napi::Value checksums(const Napi::CallbackInfo& info);
  void free(const Napi::CallbackInfo& info);

  Napi::ObjectReference device_;
  std::shared_ptr<Layer> layer_;
  int64_t reported_ = 0;
};

}  // namespace moe::binding
