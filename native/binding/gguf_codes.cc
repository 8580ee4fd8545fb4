#include "binding/gguf_codes.h"

#include <memory>
#include <vector>

#include "binding/arguments.h"
#include "binding/arrays.h"
#include "binding/errors.h"
#include "binding/pool_work.h"
#include "core/formats/gguf_codes.h"
#include "core/status.h"

namespace moe::binding {

Napi::Value convert_gguf_codes(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const GgufCodes* type = find_gguf_codes(info[0].ToString().Utf8Value());
  const int64_t blocks = find_integer(info[1]).value_or(-1);
  if (type == nullptr || blocks < 0) throw_error(env, {Code::internal, "convertGgufCodes: expected blocks of a type"});
  const auto bytes = [&](size_t index, int64_t each, int64_t count) {
    void* data = bytes_of_array(info[index], static_cast<size_t>(each * count));
    if (data == nullptr) throw_error(env, {Code::internal, "convertGgufCodes: expected the bytes of its blocks"});
    return data;
  };
  const auto* from = static_cast<const uint8_t*>(bytes(2, type->bytes, blocks));
  auto* to = static_cast<uint8_t*>(bytes(3, type->code_bytes(), blocks));
  // Keeps the arrays where they are.
  const auto arrays = std::make_shared<std::vector<Napi::Reference<Napi::Value>>>();
  for (size_t i = 2; i < 4; ++i) arrays->push_back(Napi::Reference<Napi::Value>::New(info[i], 1));
  const auto convert = [=] {
    type->convert(from, blocks, to);
    return Status();
  };
  return run_on_pool(env, "moe-kernels GGUF codes", convert, [arrays](Napi::Env own) { return own.Undefined(); });
}

}  // namespace moe::binding
