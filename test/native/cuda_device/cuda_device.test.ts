import { test } from "vitest";
import { loadNative } from "../../../lib/core/addon/native.js";
import { listDevices } from "../../../lib/devices.js";
import { nativeTests } from "../../support/native_tests.js";

listDevices(); // loads the device's library
if (loadNative().buildInfo().cuda === "") test.skip("the cuda device is not part of this build");
else nativeTests("test/native/cuda_device/moe_cuda_device_tests");
