#include "binding/gguf_codes.h"

#include <memory>
#include <vector>

#include "binding/arguments.h"
#include "binding/arrays.h"
#include "binding/errors.h"
#include "core/formats/gguf_codes.h"
#include "core/status.h"

namespace moe::binding {

namespace {

struct Conversion {
  const GgufCodes* type;
  int64_t blocks;
  const void *points, *from;
  void* to;
};

class ConversionWorker : public Napi::AsyncWorker {
 public:
  ConversionWorker(const Napi::CallbackInfo& info, const Conversion& conversion)
      : AsyncWorker(info.Env(), "moe-kernels GGUF codes"),
        deferred_(Napi::Promise::Deferred::New(info.Env())),
        conversion_(conversion) {
    for (size_t i = 2; i < info.Length(); ++i) arrays_.push_back(Napi::Reference<Napi::Value>::New(info[i], 1));
  }

  Napi::Promise promise() const { return deferred_.Promise(); }

 protected:
  void Execute() override {
    const Conversion& c = conversion_;
    c.type->convert(static_cast<const uint32_t*>(c.points), static_cast<const uint8_t*>(c.from), c.blocks,
                    static_cast<uint8_t*>(c.to));
  }
  void OnOK() override {
    // Fails only if the environment is ending.
    (void)guarded([this] {
      deferred_.Resolve(Env().Undefined());
      return Status();
    });
  }

 private:
  Napi::Promise::Deferred deferred_;
  Conversion conversion_;
  std::vector<Napi::Reference<Napi::Value>> arrays_;  // stay where they are
};

}  // namespace

Napi::Value convert_gguf_codes(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const GgufCodes* type = find_gguf_codes(info[0].ToString().Utf8Value());
  const int64_t blocks = find_integer(info[1]).value_or(-1);
  if (type == nullptr || blocks < 0) throw_error(env, {Code::internal, "convertGgufCodes: expected blocks of a type"});
  const auto bytes = [&](size_t index, int64_t each, int64_t count) {
    void* data = bytes_of_array(env, info[index], static_cast<size_t>(each * count));
    if (data == nullptr) throw_error(env, {Code::internal, "convertGgufCodes: expected the bytes of its blocks"});
    return data;
  };
  const Conversion conversion{.type = type,
                              .blocks = blocks,
                              .points = bytes(2, sizeof(uint32_t), type->point_words),
                              .from = bytes(3, type->bytes, blocks),
                              .to = bytes(4, type->code_bytes(), blocks)};
  auto worker = std::make_unique<ConversionWorker>(info, conversion);
  const Napi::Promise promise = worker->promise();
  worker->Queue();
  (void)worker.release();  // it destroys itself
  return promise;
}

}  // namespace moe::binding
