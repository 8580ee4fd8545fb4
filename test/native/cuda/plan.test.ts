import { nativeTests } from "../../support/native_tests.js";

nativeTests("test/native/cuda/moe_gpu_plan_tests");
