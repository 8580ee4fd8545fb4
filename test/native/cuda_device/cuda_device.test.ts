import { test } from "vitest";
import { nativeTests } from "../../support/native_tests.js";
import { needs } from "../../support/requirements.js";

const options = needs("the device cuda");
// Their names are known where they are built.
if (options.skip) test("native tests of the cuda device", options, () => {});
else nativeTests("test/native/cuda_device/moe_cuda_device_tests");
