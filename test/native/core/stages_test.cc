#include "core/layer/stages.h"

#include "check.h"
#include "core/layer/description.h"

namespace {

using moe::check_stages;
using moe::LayerDescription;
using moe::LayerForward;
using moe::Stage;
using moe::TensorView;

const TensorView kGiven{.rank = 2, .shape = {1, 1}};

}  // namespace

MOE_TEST(lists_of_stages_find_what_they_read) {
  const LayerDescription layer;
  const LayerForward forward{.x = kGiven, .y = kGiven};
  const LayerForward routed{.x = kGiven, .ids = kGiven, .weights = kGiven, .y = kGiven};
  MOE_CHECK(check_stages(moe::kLogitsStages, layer, {.x = kGiven, .logits = kGiven}).ok());
  MOE_CHECK(check_stages(moe::kRouteStages, layer, {.x = kGiven, .ids = kGiven, .weights = kGiven}).ok());
  MOE_CHECK(check_stages(moe::kForwardStages, layer, forward).ok());
  MOE_CHECK(check_stages(moe::kRoutedStages, layer, routed).ok());
  const Stage gating[] = {Stage::gating};
  MOE_CHECK(check_stages(gating, layer, {.x = kGiven, .logits = kGiven}).ok());
}

MOE_TEST(lists_of_stages_that_lack_one_are_refused) {
  const LayerForward forward{.x = kGiven, .y = kGiven};
  const auto message = [&](std::initializer_list<Stage> stages, const LayerForward& f, moe::SharedGate gate) {
    LayerDescription layer;
    layer.shared_gate = gate;
    return check_stages({stages.begin(), stages.size()}, layer, f).message;
  };
  const auto none = moe::SharedGate::none;
  MOE_CHECK_EQUAL(message({Stage::gating}, forward, none), "stages: expected router before gating");
  MOE_CHECK_EQUAL(message({Stage::sort}, forward, none), "stages: expected gating before sort");
  MOE_CHECK_EQUAL(message({Stage::router, Stage::router}, forward, none), "stages: expected router once");
  LayerForward routed = forward;
  routed.ids = routed.weights = kGiven;
  MOE_CHECK_EQUAL(message({Stage::sort, Stage::down}, routed, none), "stages: expected gateUp before down");
  MOE_CHECK_EQUAL(message({Stage::sort, Stage::gate_up, Stage::combine}, routed, none),
                  "stages: expected down before combine");
  MOE_CHECK_EQUAL(message({Stage::sort, Stage::gate_up, Stage::down, Stage::combine}, routed, moe::SharedGate::sigmoid),
                  "stages: expected sharedGate before sort");
}
