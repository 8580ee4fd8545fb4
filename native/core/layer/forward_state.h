// What the stages of a forward leave for later ones, kept after the call that ran them: so that others, such as those
// of a backward pass, can run in later calls.
#pragma once

namespace moe {

// Made by a layer, for its run().
class ForwardState {
 public:
  virtual ~ForwardState() = default;
};

}  // namespace moe
