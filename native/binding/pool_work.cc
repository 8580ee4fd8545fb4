#include "binding/pool_work.h"

#include <memory>
#include <utility>

#include "binding/errors.h"

namespace moe::binding {

namespace {

class PoolWorker : public Napi::AsyncWorker {
 public:
  PoolWorker(Napi::Env env, const char* name, std::function<Status()> work,
             std::function<Napi::Value(Napi::Env)> result)
      : AsyncWorker(env, name),
        deferred_(Napi::Promise::Deferred::New(env)),
        work_(std::move(work)),
        result_(std::move(result)) {}

  Napi::Promise promise() const { return deferred_.Promise(); }

 protected:
  void Execute() override { status_ = guarded(work_); }
  void OnOK() override {
    // Fails only if the environment is ending.
    (void)guarded([this] {
      settle();
      return Status();
    });
  }

 private:
  void settle() {
    if (!status_.ok()) return deferred_.Reject(make_error(Env(), status_));
    deferred_.Resolve(result_(Env()));
  }

  Napi::Promise::Deferred deferred_;
  std::function<Status()> work_;
  std::function<Napi::Value(Napi::Env)> result_;
  Status status_;
};

}  // namespace

Napi::Promise run_on_pool(Napi::Env env, const char* name, std::function<Status()> work,
                          std::function<Napi::Value(Napi::Env)> result) {
  auto worker = std::make_unique<PoolWorker>(env, name, std::move(work), std::move(result));
  const Napi::Promise promise = worker->promise();
  worker->Queue();
  (void)worker.release();  // it destroys itself
  return promise;
}

}  // namespace moe::binding
