// A loop of oneDNN's ukernels over experts as a peer: answers commands, one JSON line each, as ../../peer_process.ts
// describes. `onednn_peer --check` only fails, with the reason on standard error, if oneDNN does not use tiles here.

#include <fstream>

#include "../common/serve.h"
#include "layer.h"

namespace {

void check_tiles() {
  if (dnnl::get_effective_cpu_isa() < dnnl::cpu_isa::avx512_core_amx) {
    throw std::runtime_error("oneDNN may not use AMX here: the system refuses it, or ONEDNN_MAX_CPU_ISA is set");
  }
}

template <class Element>
class Peer : public Commands {
  using Token = typename Layer<Element>::Token;

 public:
  Peer(const SafetensorsFile& file, const Config& config, std::size_t copies, Team& team)
      : file_(file), config_(config), team_(team), layer_(config, file, copies, team) {}

  void outputs(std::size_t tokens, const std::string& path) override {
    Call call = calls(tokens);
    std::ofstream target(path, std::ios::binary);
    for (std::size_t index = 0; index < call.inputs.size(); ++index) {
      team_.run([&](int thread) { forward(thread, call, index, 0); });
      for (const Token value : call.y) {
        const float result = as_float(value);
        target.write(reinterpret_cast<const char*>(&result), sizeof result);
      }
    }
    if (!target.flush()) throw std::runtime_error(path + ": cannot be written");
  }

  std::vector<double> time(std::size_t tokens, double seconds) override {
    Call call = calls(tokens);
    std::vector<double> times;
    std::atomic<bool> goes_on{true};
    team_.run([&](int thread) {
      team_.barrier();
      const double begin = now();
      for (std::size_t done = 0; goes_on;) {
        for (std::size_t index = 0; index < call.inputs.size(); ++index, ++done) {
          const double start = now();
          forward(thread, call, index, done % layer_.copies());
          if (thread == 0) times.push_back(now() - start);
        }
        if (thread == 0) goes_on = now() - begin < seconds;
        team_.barrier();
      }
    });
    return times;
  }

 private:
  struct Input {
    const Token* x;
    const float* logits;
  };
  struct Call {
    std::size_t tokens;
    std::vector<Input> inputs;
    Routing routing;
    std::vector<Token> y;
  };

  Call calls(std::size_t tokens) {
    layer_.reserve(tokens);
    Call result{tokens, {}, Routing(config_, tokens), std::vector<Token>(tokens * config_.hidden)};
    const std::string dtype = std::is_same_v<Token, float> ? "F32" : "BF16";
    for (std::size_t index = 0;; ++index) {
      const std::string name = std::to_string(tokens) + "." + std::to_string(index);
      if (!file_.has("x." + name)) return result;
      result.inputs.push_back({file_.read<Token>("x." + name, dtype), file_.read<float>("logits." + name, "F32")});
    }
  }

  void forward(int thread, Call& call, std::size_t index, std::size_t copy) {
    const Input& input = call.inputs[index];
    layer_.forward(thread, copy, call.tokens, input.x, input.logits, call.routing, call.y.data());
  }

  static float as_float(float value) { return value; }
  static float as_float(BFloat16 value) {
    const std::uint32_t bits = static_cast<std::uint32_t>(value) << 16;
    float result = 0;
    std::memcpy(&result, &bits, sizeof result);
    return result;
  }

  const SafetensorsFile& file_;
  const Config config_;
  Team& team_;
  Layer<Element> layer_;
};

void run(const Json& setup) {
  const SafetensorsFile file(setup.at("directory").text + "/" + setup.at("weights").text);
  const Config config(setup.at("config"));
  const std::size_t copies = setup.integer("copies");
  Team team(static_cast<int>(setup.integer("threads")));
  std::unique_ptr<Commands> peer;
  if (file.dtype("gate") == "BF16") {
    peer = std::make_unique<Peer<BFloat16>>(file, config, copies, team);
  } else {
    peer = std::make_unique<Peer<std::int8_t>>(file, config, copies, team);
  }
  const dnnl_version_t* version = dnnl_version();
  std::ostringstream name;
  name << "oneDNN " << version->major << "." << version->minor << "." << version->patch << " ukernels";
  serve(*peer, name.str());
}

}  // namespace

int main(int count, char** arguments) {
  return run_program([&] {
    if (count != 2) throw std::runtime_error("expected one argument, --check or a setup as JSON");
    check_tiles();
    if (std::string(arguments[1]) != "--check") run(Json::parse(arguments[1]));
  });
}
