// A layer's weights and its fused stages, as JavaScript holds them.
#pragma once

#include <memory>
#include <vector>

#include "binding/device.h"
#include "binding/napi_setup.h"
#include "binding/reported_bytes.h"
#include "core/layer/weight_copies.h"

namespace moe::binding {

class LayerObject : public Object<LayerObject> {
 public:
  static constexpr const char* kClass = "LayerHandle";

  static void define(Napi::Env env);
  static Napi::Object create(Napi::Object device, DeviceObject& owner, const Napi::CallbackInfo& info);

  explicit LayerObject(const Napi::CallbackInfo& info) : Object(info) {}
  void Finalize(Napi::BasicEnv env) override;

 private:
  const std::shared_ptr<Layer>& layer(Napi::Env env) const;
  DeviceObject& device() const;
  // Enqueues a run of stages for the JavaScript function `name`. `uses` has the forward's tensors.
  void run(Napi::Env env, const char* name, std::vector<Stage> stages, const LayerForward& forward, Uses uses);
  // Enqueues a call of the layer's member function `set`, which sets the weights at `place`, one of the layer's parts,
  // for the JavaScript function `name`.
  template <class... Parameters, class... Arguments>
  void set(Napi::Env env, const char* name, int64_t place, Status (Layer::*set)(Parameters...), Uses uses,
           Arguments... arguments) {
    const std::shared_ptr<Layer>& target = layer(env);
    uses.writes(target, {static_cast<size_t>(place), static_cast<size_t>(place) + 1});
    device().enqueue(
        env, name, [target, set, arguments...] { return (target.get()->*set)(arguments...); }, std::move(uses));
  }
  void release(Napi::BasicEnv env);
  // Setting weights allocates memory for biases, input scales and orders.
  void report(Napi::BasicEnv env);
  void set_router(const Napi::CallbackInfo& info);
  void set_selection_bias(const Napi::CallbackInfo& info);
  void set_shared_gate(const Napi::CallbackInfo& info);
  void copy_weight(const Napi::CallbackInfo& info);
  WeightCopies& copies(Napi::Env env) const;
  void copy_selection_bias(const Napi::CallbackInfo& info);
  void copy_field(const Napi::CallbackInfo& info);
  void logits(const Napi::CallbackInfo& info);
  void set_expert(const Napi::CallbackInfo& info);
  void route(const Napi::CallbackInfo& info);
  void forward(const Napi::CallbackInfo& info);
  Napi::Value capture(const Napi::CallbackInfo& info);
  void prefetch(const Napi::CallbackInfo& info);
  Napi::Value offload_slots(const Napi::CallbackInfo& info);
  Napi::Value offload_stats(const Napi::CallbackInfo& info);
  Napi::Value stage_times(const Napi::CallbackInfo& info);
  Napi::Value byte_length(const Napi::CallbackInfo& info);
  Napi::Value parts(const Napi::CallbackInfo& info);
  Napi::Value checksums(const Napi::CallbackInfo& info);
  Napi::Value weights_set(const Napi::CallbackInfo& info);
  void free(const Napi::CallbackInfo& info);

  Napi::ObjectReference device_;
  std::shared_ptr<Layer> layer_;
  ReportedBytes reported_;
};

}  // namespace moe::binding
