import type { Backend } from "../backend.js";
import type { DeviceOptions } from "../native.js";
export declare class ReferenceBackend {
  constructor(options: DeviceOptions);
}
export interface ReferenceBackend extends Backend {}
