import { nativeTests } from "../../support/native_tests.js";

nativeTests("test/native/gpu/moe_gpu_runtime_tests");
