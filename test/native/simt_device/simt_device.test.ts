import { nativeTests } from "../../support/native_tests.js";

nativeTests("test/native/simt_device/moe_simt_device_tests");
