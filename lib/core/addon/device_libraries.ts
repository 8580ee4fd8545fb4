import { existsSync } from "node:fs";
import { dirname, join } from "node:path";
import type { Backend } from "../device/backend.js";
import { MoeError, messageOf } from "../errors.js";
import { type Found, installedFile } from "./addon_files.js";
import { type DeviceInfo, type DeviceOptions, type KernelInfo, loadedFile, loadNative } from "./native.js";
import { buildCommand } from "./not_built.js";
import { findPackage } from "./package_root.js";
import { type LibraryKind, libraryFile, libraryKinds, libraryPackage, platformName } from "./platforms.js";

/** Opens a native device. @throws DEVICE_UNAVAILABLE, which says how to get its library if there is none. */
export function openNative(name: string, options: DeviceOptions): Backend {
  const kind = libraryKinds.find((library) => name.startsWith(library));
  const missing = kind && missingLibrary(kind);
  if (missing) throw new MoeError("DEVICE_UNAVAILABLE", `${name}: ${missing}`);
  return loadNative().open(name, options);
}

/** The native devices of these kinds: `cpu`, every GPU, and a row for each kind whose library is missing, with the reason. */
export function listNative(kinds: readonly NativeKind[] = ["cpu", ...libraryKinds]): DeviceInfo[] {
  return kinds.flatMap((kind) => {
    const detail = kind === "cpu" ? undefined : missingLibrary(kind);
    return detail === undefined ? devicesOf(kind) : [{ name: kind, kind, available: false, detail }];
  });
}

/** The kernel tables of all devices that are installed. */
export function listKernels(): KernelInfo[] {
  for (const kind of libraryKinds) missingLibrary(kind);
  return loadNative().kernels();
}

type NativeKind = "cpu" | LibraryKind;

function devicesOf(kind: NativeKind): DeviceInfo[] {
  return loadNative()
    .devices()
    .filter((device) => device.kind === kind);
}

/** Loads a device's library, unless it is loaded. Returns why that is not possible, and what to do. */
function missingLibrary(kind: LibraryKind): string | undefined {
  return devicesOf(kind).length > 0 ? undefined : loadLibrary(kind);
}

/** Loads a device's library. Returns why that is not possible, and what to do; undefined if it is loaded. */
function loadLibrary(kind: LibraryKind): string | undefined {
  const native = loadNative();
  const found = findLibrary(kind);
  if ("missing" in found) return found.missing;
  try {
    native.loadDevice(kind, found.file);
    return undefined;
  } catch (error) {
    return messageOf(error);
  }
}

/** A device's library: beside the addon, else in the package for this platform that has it. */
function findLibrary(kind: LibraryKind): Found {
  const beside = join(dirname(loadedFile()), libraryFile(kind));
  if (existsSync(beside)) return { file: beside };
  const name = libraryPackage(platformName(), kind);
  const found: Found = name === undefined ? { missing: "" } : installedFile(name, libraryFile(kind));
  if ("file" in found) return found;
  const root = findPackage();
  const reasons = [`${beside} not found`, found.missing].filter(Boolean);
  const remedies = [
    ...(name === undefined ? [] : [`npm install ${name}`]),
    ...(root === undefined ? [] : [buildCommand(root, kind)]),
  ];
  return { missing: `${reasons.join(", and ")}; to get it: ${remedies.join(", or ")}` };
}
