// llama.cpp's kernel library ggml, from node-llama-cpp's package, as a peer: answers commands, one JSON line each, as
// ../../peer_process.ts describes. The first argument is the folder of the libraries, the second a setup as JSON or
// --check, which only fails, with the reason on standard error, if ggml is missing or not as ggml.h declares it.

#include <algorithm>
#include <fstream>
#include <memory>

#include "../common/serve.h"
#include "layer.h"

namespace {

/** The inputs of calls with so many tokens, and a graph for each of them and each copy of the layer. */
class Calls {
 public:
  Calls(const Cpu& cpu, const Layer& layer, const Config& config, const SafetensorsFile& file, std::size_t tokens)
      : cpu_(cpu),
        tokens_(tokens),
        copies_(layer.copies()),
        inputs_(count_inputs(file, tokens)),
        input_room_(cpu.ggml, 2 * inputs_),
        graph_room_(cpu.ggml, inputs_ * copies_ * layer.tensors(), inputs_ * copies_, layer.nodes()),
        allocator_(cpu.ggml.new_graph_allocator(cpu.plain_memory()), cpu.ggml.free_graph_allocator) {
    const Ggml& ggml = cpu.ggml;
    std::vector<GgmlTensor*> x, logits;
    for (std::size_t index = 0; index < inputs_; ++index) {
      x.push_back(ggml.new_2d(input_room_, ggml_types::f32.number, config.hidden, tokens));
      logits.push_back(ggml.new_2d(input_room_, ggml_types::f32.number, config.experts, tokens));
    }
    if (!input_room_.allocate(cpu.plain_memory())) throw std::bad_alloc();
    for (std::size_t index = 0; index < inputs_; ++index) {
      const std::vector<float> rows = floats(file, name("x", tokens, index), tokens * config.hidden);
      ggml.write(x[index], rows.data(), 0, rows.size() * sizeof(float));
      const float* values = file.read<float>(name("logits", tokens, index), "F32");
      ggml.write(logits[index], values, 0, tokens * config.experts * sizeof(float));
      for (std::size_t copy = 0; copy < copies_; ++copy) {
        forwards_.push_back(layer.describe(graph_room_, copy, tokens, x[index], logits[index]));
        // All graphs are alike and take the same memory.
        if (!ggml.allocate_graph(allocator_.get(), forwards_.back().graph)) throw std::bad_alloc();
      }
    }
  }

  std::size_t tokens() const { return tokens_; }
  std::size_t inputs() const { return inputs_; }

  /** Computes call number `number` of a turn; returns the tensor of the outputs. */
  const GgmlTensor* compute(std::size_t number) const {
    const Forward& forward = forwards_[number % inputs_ * copies_ + number % copies_];
    cpu_.compute(forward.graph);
    return forward.y;
  }

 private:
  static std::string name(const std::string& kind, std::size_t tokens, std::size_t index) {
    return kind + "." + std::to_string(tokens) + "." + std::to_string(index);
  }

  static std::size_t count_inputs(const SafetensorsFile& file, std::size_t tokens) {
    std::size_t count = 0;
    while (file.has(name("x", tokens, count))) ++count;
    return count;
  }

  /** A tensor of float32, or of bfloat16 as float32, which ggml's graphs have all rows in. */
  static std::vector<float> floats(const SafetensorsFile& file, const std::string& name, std::size_t count) {
    std::vector<float> result(count);
    if (file.dtype(name) == "F32") {
      std::copy_n(file.read<float>(name, "F32"), count, result.begin());
      return result;
    }
    const std::uint16_t* from = file.read<std::uint16_t>(name, "BF16");
    for (std::size_t index = 0; index < count; ++index) {
      const std::uint32_t bits = static_cast<std::uint32_t>(from[index]) << 16;
      std::memcpy(&result[index], &bits, sizeof bits);
    }
    return result;
  }

  const Cpu& cpu_;
  const std::size_t tokens_, copies_, inputs_;
  Room input_room_, graph_room_;
  std::unique_ptr<GgmlGraphAllocator, void (*)(GgmlGraphAllocator*)> allocator_;
  /** By input, then by copy. */
  std::vector<Forward> forwards_;
};

class Peer : public Commands {
 public:
  Peer(const Cpu& cpu, const Config& config, const SafetensorsFile& file, std::size_t copies)
      : cpu_(cpu), config_(config), file_(file), layer_(cpu, config, file, copies) {}

  void outputs(std::size_t tokens, const std::string& path) override {
    const Calls& calls = of(tokens);
    std::vector<float> y(tokens * config_.hidden);
    std::ofstream target(path, std::ios::binary);
    for (std::size_t number = 0; number < calls.inputs(); ++number) {
      cpu_.ggml.read(calls.compute(number), y.data(), 0, y.size() * sizeof(float));
      target.write(reinterpret_cast<const char*>(y.data()), static_cast<std::streamsize>(y.size() * sizeof(float)));
    }
    cpu_.rest();
    if (!target.flush()) throw std::runtime_error(path + ": cannot be written");
  }

  std::vector<double> time(std::size_t tokens, double seconds) override {
    const Calls& calls = of(tokens);
    std::vector<double> times;
    const double begin = now();
    do {
      for (std::size_t index = 0; index < calls.inputs(); ++index) {
        const double start = now();
        calls.compute(times.size());
        times.push_back(now() - start);
      }
    } while (now() - begin < seconds);
    cpu_.rest();
    return times;
  }

 private:
  /** The calls with so many tokens; those of the last count are kept. */
  const Calls& of(std::size_t tokens) {
    if (calls_ && calls_->tokens() == tokens) return *calls_;
    calls_.reset();
    calls_ = std::make_unique<Calls>(cpu_, layer_, config_, file_, tokens);
    return *calls_;
  }

  const Cpu& cpu_;
  const Config config_;
  const SafetensorsFile& file_;
  const Layer layer_;
  std::unique_ptr<Calls> calls_;
};

}  // namespace

int main(int count, char** arguments) {
  return run_program([&] {
    if (count != 3) throw std::runtime_error("expected two arguments: a folder, and --check or a setup as JSON");
    const Ggml ggml(arguments[1]);
    Cpu cpu(ggml, arguments[1]);
    if (std::string(arguments[2]) == "--check") return;
    const Json setup = Json::parse(arguments[2]);
    cpu.use_threads(static_cast<int>(setup.integer("threads")));
    const SafetensorsFile file(setup.at("directory").text + "/" + setup.at("weights").text);
    Peer peer(cpu, Config(setup.at("config")), file, setup.integer("copies"));
    serve(peer, "ggml " + std::string(ggml.version()) + " " + cpu.variant());
  });
}
