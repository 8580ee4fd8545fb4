#include "binding/device.h"

#include "binding/addon.h"
#include "binding/arguments.h"
#include "binding/completion.h"
#include "binding/devices.h"
#include "binding/errors.h"
#include "binding/field_reader.h"
#include "binding/layer.h"
#include "binding/layer_description.h"
#include "binding/offload_budget.h"
#include "binding/packed_experts.h"
#include "binding/tensor.h"
#include "binding/variables.h"
#include "core/device_name.h"
#include "core/host_memory.h"

namespace moe::binding {

template <class Operator>
void DeviceObject::run(const Napi::CallbackInfo& info) {
  Uses uses;
  Operator problem = read_operator<Operator>(info[0], uses);
  stream(info.Env());
  if (!HasOutput<Operator>(problem)) return;
  enqueue(
      info.Env(), Operator::kName, [backend = backend_, problem] { return backend->run(problem); }, std::move(uses));
}

void DeviceObject::define(Napi::Env env) {
  std::vector<PropertyDescriptor> members = {
      InstanceAccessor<&DeviceObject::kind>("kind"),
      InstanceAccessor<&DeviceObject::description>("description"),
      InstanceMethod<&DeviceObject::empty>("empty"),
      InstanceMethod<&DeviceObject::synchronize>("synchronize"),
      InstanceMethod<&DeviceObject::synchronize_sync>("synchronizeSync"),
      InstanceMethod<&DeviceObject::submitted>("submitted"),
      InstanceMethod<&DeviceObject::warnings>("warnings"),
      InstanceMethod<&DeviceObject::busy_seconds>("busySeconds"),
      InstanceMethod<&DeviceObject::dispose>("dispose"),
      InstanceMethod<&DeviceObject::close>("close"),
      InstanceMethod<&DeviceObject::packed_experts>("packedExperts"),
      InstanceMethod<&DeviceObject::layer>("layer"),
      InstanceMethod<&DeviceObject::offload_budget>("offloadBudget"),
      InstanceMethod<&DeviceObject::weight_layout>("weightLayout"),
      InstanceMethod<&DeviceObject::map_file>("mapFile"),
      InstanceMethod<&DeviceObject::wrap>("wrap"),
      InstanceMethod<&DeviceObject::wrap_pointer>("wrapPointer"),
      InstanceMethod<&DeviceObject::cancellation>("cancellation"),
      InstanceMethod<&DeviceObject::cancel_with>("cancelWith"),
  };
  for_each_operator(
      [&]<class Operator>() { members.push_back(InstanceMethod<&DeviceObject::run<Operator>>(Operator::kName)); });
  Addon::of(env).device = Napi::Persistent(DefineClass(env, members));
}

Napi::Value DeviceObject::open(const Napi::CallbackInfo& info) {
  return Addon::of(info.Env()).device.New({info[0], info[1]});
}

DeviceObject::DeviceObject(const Napi::CallbackInfo& info) : Object(info) {
  const Napi::Env env = info.Env();
  (void)disposed();  // made while there is memory
  const std::string name = info[0].ToString();
  const Napi::Object given = info[1].ToObject();
  DeviceOptions& options = options_;
  if (given.Get("threads").IsNumber()) options.threads = given.Get("threads").ToNumber().Int32Value();
  options.poison = given.Get("poison").ToBoolean();
  options.allowed.tf32 = given.Get("tf32").ToBoolean();
  options.allowed.fp8_sums = given.Get("fp8Sums").ToBoolean();
  if (given.Get("stream").IsBigInt()) options.stream = address(env, given.Get("stream"), "stream");
  options.variables = variables_of(env);
  keeps_call_sites_ = given.Get("callSites").ToBoolean();
  std::unique_ptr<Backend> backend;
  check(env, open_device(name, options, &backend));
  backend_ = std::move(backend);
  kind_ = device_kind(name);
  // Before completions_, which would leak if one of these failed.
  stream_ = std::make_unique<Stream>();
  returns_ = std::make_shared<Returns>();
  // Unreferenced while nothing is pending, so that an open device does not keep the process alive.
  completions_ = Completions::New(env, "moe-kernels device", 0, 1, this);
  completions_.Unref(env);
  returns_->completions = completions_;
  // After completions_: hooks run last in, first out, so the stream has ended before completions_ closes.
  napi_add_env_cleanup_hook(env, end_device, this);
  ended_ = false;
}

DeviceObject::~DeviceObject() {
  if (ended_) return;
  napi_remove_env_cleanup_hook(Env(), end_device, this);
  const bool works = stream_ != nullptr && !stream_->idle();
  const auto leave = [this] {
    leave_stream();
    return Status();
  };
  // Without memory to leave it behind, its end is waited for.
  if (!works || !guarded(leave).ok()) end();
}

const std::shared_ptr<Backend>& DeviceObject::backend(Napi::Env env) const {
  if (backend_ == nullptr) throw_error(env, {Code::disposed, "device: used after dispose()"});
  return backend_;
}

const std::shared_ptr<Backend>& DeviceObject::host(Napi::Env env) {
  if (host_ != nullptr) return host_;
  std::unique_ptr<Backend> opened;
  check(env, open_device("cpu", options_, &opened));
  host_ = std::move(opened);
  return host_;
}

std::function<Status()> DeviceObject::last_work() const {
  return [backend = backend_] {
    const Status status = backend->synchronize();
    backend->release_stream();
    return status;
  };
}

void DeviceObject::leave_stream() {
  auto made = std::make_unique<Completion>();
  made->completions = completions_;
  made->returns = returns_;
  stream_->end(last_work(), [completion = made.get()](Status) { completion->completions.NonBlockingCall(completion); });
  stream_->cancel(disposed());
  made->left = std::move(stream_);
  napi_add_env_cleanup_hook(Env(), end_left, made.get());
  // complete() owns it now.
  (void)made.release();
  ended_ = true;
}

void DeviceObject::end_left(void* completion) { static_cast<Completion*>(completion)->end_left(); }

void DeviceObject::end_device(void* device) { static_cast<DeviceObject*>(device)->end(); }

void DeviceObject::end() noexcept {
  if (stream_ != nullptr) stream_->cancel(disposed());
  stream_.reset();
  if (backend_ != nullptr) backend_->release_stream();
  if (returns_ != nullptr) returns_->close();
  completions_.Release();
  ended_ = true;
}

Stream& DeviceObject::stream(Napi::Env env) {
  backend(env);
  return *stream_;
}

void DeviceObject::enqueue(Napi::Env env, const char* name, std::function<Status()> work, Uses uses) {
  if (cancelled_ != nullptr) {
    work = [cancelled = cancelled_, name, inner = std::move(work)]() -> Status {
      const uint64_t reason = cancelled->load(std::memory_order_acquire);
      return reason == 0 ? inner() : AbortReasons::aborted(name, reason);
    };
  }
  // Before the work is enqueued, which cannot be taken back.
  if (keeps_call_sites_) call_sites_.remember(env, name);
  const uint64_t call = stream(env).enqueue(std::move(work), std::move(uses));
  if (keeps_call_sites_) call_sites_.number(call);
}

void DeviceObject::run_and_wait(Napi::Env env, std::function<Status()> work, Uses uses) {
  const Status status = stream(env).run(std::move(work), std::move(uses));
  if (!status.ok()) throw Napi::Error(env, error_of_wait(env, status));
}

Napi::Value DeviceObject::error_of_wait(Napi::Env env, const Status& status) const {
  const Napi::Value error = make_error(env, status);
  const Napi::Value site = call_sites_.find(env, status.call);
  if (!site.IsUndefined()) {
    error.As<Napi::Object>().DefineProperty(Napi::PropertyDescriptor::Value(
        "cause", site, static_cast<napi_property_attributes>(napi_writable | napi_configurable)));
  }
  return error;
}

std::shared_ptr<void> DeviceObject::staging(Napi::Env env, size_t bytes) {
  constexpr size_t kKept = size_t{64} << 20;
  if (staging_ != nullptr && staging_.use_count() == 1 && staging_bytes_ >= bytes) return staging_;
  std::shared_ptr<void> memory;
  check(env, host_memory(bytes, &memory));
  if (bytes <= kKept) {
    staging_ = memory;
    staging_bytes_ = bytes;
  }
  return memory;
}

Napi::Value DeviceObject::promise(Napi::Env env, std::function<Status()> work, Uses uses,
                                  std::function<Napi::Value(Napi::Env)> result, Told told) {
  const Napi::Promise::Deferred deferred = Napi::Promise::Deferred::New(env);
  await(env, std::unique_ptr<Completion>(new Completion{deferred, std::move(result)}),
        [&](Stream::Done done) { stream(env).enqueue(std::move(work), std::move(uses), std::move(done), told); });
  return deferred.Promise();
}

void DeviceObject::await(Napi::Env env, std::unique_ptr<Completion> made,
                         const std::function<void(Stream::Done)>& enqueue) {
  enqueue([this, completion = made.get()](Status status) {
    completion->status = std::move(status);
    // Fails only while the environment is ending, and then nobody is waiting.
    completions_.NonBlockingCall(completion);
  });
  // complete() owns it now, and runs on this thread later.
  (void)made.release();
  if (pending_++ == 0) {
    completions_.Ref(env);
    Ref();
  }
}

void DeviceObject::complete(Napi::Env env, Napi::Function, DeviceObject* device, Completion* completion) noexcept {
  const std::unique_ptr<Completion> owned(completion);
  if (env == nullptr) {
    (void)completion->owner.release();
    return;
  }
  if (completion->owner != nullptr) {
    give_back(env, *completion);
    return;
  }
  if (completion->left != nullptr) {
    napi_remove_env_cleanup_hook(env, end_left, completion);
    // As below, this does not wait. There is no device any more.
    completion->end_left();
    return;
  }
  // Fails only if the environment is ending. Nobody could catch an exception here.
  (void)guarded([&] {
    const Napi::HandleScope scope(env);
    // What follows may collect garbage.
    [[maybe_unused]] const Napi::Object kept = device->Value();
    if (--device->pending_ == 0) {
      device->completions_.Unref(env);
      device->Unref();
    }
    // Its thread has nothing left to do, so this does not wait.
    if (completion->ends_stream) device->stream_.reset();
    if (completion->deferred) device->settle(env, *completion);
    return Status();
  });
}

void DeviceObject::settle(Napi::Env env, Completion& completion) const {
  Napi::Value result;
  if (completion.status.ok()) {
    completion.status = guarded([&] {
      result = completion.result(env);
      return Status();
    });
  }
  if (completion.status.ok()) {
    completion.deferred->Resolve(result);
  } else {
    completion.deferred->Reject(error_of_wait(env, completion.status));
  }
}

Napi::Value DeviceObject::kind(const Napi::CallbackInfo& info) { return Napi::String::New(info.Env(), kind_); }

Napi::Value DeviceObject::description(const Napi::CallbackInfo& info) {
  return Napi::String::New(info.Env(), backend(info.Env())->description());
}

Napi::Value DeviceObject::empty(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  return TensorObject::create(info.This().As<Napi::Object>(), dtype(env, info[0]), shape(env, info[1]));
}

Napi::Value DeviceObject::wait(Napi::Env env, Uses read) {
  return promise(
      env, [backend = backend(env)] { return backend->synchronize(); }, std::move(read),
      [](Napi::Env own) { return own.Undefined(); });
}

void DeviceObject::wait_sync(Napi::Env env, Uses read) {
  run_and_wait(
      env, [backend = backend(env)] { return backend->synchronize(); }, std::move(read));
}

Napi::Value DeviceObject::synchronize(const Napi::CallbackInfo& info) { return wait(info.Env(), {}); }

void DeviceObject::synchronize_sync(const Napi::CallbackInfo& info) { wait_sync(info.Env(), {}); }

Napi::Value DeviceObject::submitted(const Napi::CallbackInfo& info) {
  // Operators return once their work is in order on the device.
  return promise(
      info.Env(), [] { return Status(); }, {}, [](Napi::Env env) { return env.Undefined(); });
}

Napi::Value DeviceObject::warnings(const Napi::CallbackInfo& info) {
  Napi::Object result = Napi::Object::New(info.Env());
  result.Set("nonFiniteLogitRows", static_cast<double>(backend(info.Env())->warnings.non_finite_logit_rows.load()));
  return result;
}

Napi::Value DeviceObject::busy_seconds(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), stream(info.Env()).busy_seconds());
}

void DeviceObject::end_stream(Napi::Env env, std::optional<Napi::Promise::Deferred> closed) {
  std::unique_ptr<Completion> made(new Completion{closed, [](Napi::Env e) { return e.Undefined(); }, true});
  await(env, std::move(made), [&](Stream::Done done) { stream(env).end(last_work(), std::move(done)); });
  let_go();
}

void DeviceObject::let_go() {
  backend_.reset();
  host_.reset();
  staging_.reset();
}

void DeviceObject::dispose(const Napi::CallbackInfo& info) {
  if (backend_ == nullptr) return;
  if (stream_->idle()) {
    stream_.reset();
    backend_->release_stream();
    let_go();
    return;
  }
  end_stream(info.Env(), std::nullopt);
  stream_->cancel(disposed());
}

Napi::Value DeviceObject::close(const Napi::CallbackInfo& info) {
  const Napi::Promise::Deferred closed = Napi::Promise::Deferred::New(info.Env());
  end_stream(info.Env(), closed);
  return closed.Promise();
}

Napi::Value DeviceObject::packed_experts(const Napi::CallbackInfo& info) {
  return PackedExpertsObject::create(info.This().As<Napi::Object>(), *this, info);
}

Napi::Value DeviceObject::layer(const Napi::CallbackInfo& info) {
  return LayerObject::create(info.This().As<Napi::Object>(), *this, info);
}

Napi::Value DeviceObject::offload_budget(const Napi::CallbackInfo& info) {
  return OffloadBudgetObject::create(info.This().As<Napi::Object>(), *this, info);
}

Napi::Value DeviceObject::weight_layout(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const LayerDescription description = layer_description(env, info[0].ToObject());
  return Napi::String::New(env, backend(env)->weight_layout(description));
}

Napi::Value DeviceObject::map_file(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const int descriptor = static_cast<int>(integer(env, info[0], "descriptor"));
  const std::string path = info[1].ToString();
  const size_t bytes = static_cast<size_t>(integer(env, info[2], "byteLength"));
  stream(env);
  std::shared_ptr<MappedFile> file;
  check(env, backend(env)->map_file(descriptor, path, bytes, &file));
  return TensorObject::over(info.This().As<Napi::Object>(), std::make_shared<Storage>(std::move(file), bytes));
}

Napi::Value DeviceObject::cancellation(const Napi::CallbackInfo& info) {
  return CancellationObject::create(info.Env());
}

void DeviceObject::cancel_with(const Napi::CallbackInfo& info) {
  const CancellationObject* given = unwrap<CancellationObject>(info[0]);
  cancelled_ = given == nullptr ? nullptr : given->cancelled();
}

}  // namespace moe::binding
