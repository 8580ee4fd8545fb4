/** A platform for which the addon is published in binary form. */
export interface Platform {
  readonly os: NodeJS.Platform;
  readonly cpu: NodeJS.Architecture;
  readonly libc?: "glibc" | "musl";
  /** The oldest glibc that its binary may ask for. */
  readonly glibc?: string;
}

/** By the name that {@link platformName} gives them. Each is a package of its own: {@link platformPackage}. */
export const platforms: Readonly<Record<string, Platform>> = {
  "linux-x64-glibc": { os: "linux", cpu: "x64", libc: "glibc", glibc: "2.34" },
  "linux-arm64-glibc": { os: "linux", cpu: "arm64", libc: "glibc", glibc: "2.34" },
};

/** The addon's file, in platform packages and in builds. */
export const addonFile = "moe_kernels.node";

/** The devices that are shared libraries of their own, loaded when somebody asks for them. */
export const libraryKinds = ["simt", "cuda"] as const;
export type LibraryKind = (typeof libraryKinds)[number];

/** A device's library, beside the addon or in a package of its own. */
export function libraryFile(kind: LibraryKind): string {
  return `moe_kernels_${kind}.so`;
}

/** Name of this platform, such as `linux-x64-glibc`; platforms of one name can load the same binary. */
export function platformName(): string {
  if (process.platform !== "linux") return `${process.platform}-${process.arch}`;
  libc ??= findLibc();
  return `linux-${process.arch}-${libc}`;
}

let libc: Platform["libc"];

function findLibc(): "glibc" | "musl" {
  const { report } = process;
  const { excludeNetwork } = report as { excludeNetwork?: boolean };
  try {
    // Otherwise the report does a reverse DNS lookup for every open connection.
    Object.assign(report, { excludeNetwork: true });
    const { header } = report.getReport() as { header?: { glibcVersionRuntime?: string } };
    return header?.glibcVersionRuntime ? "glibc" : "musl";
  } finally {
    Object.assign(report, { excludeNetwork });
  }
}

/** The package that holds a platform's addon. */
export function platformPackage(platform: string): string {
  return `@moe-kernels/${platform}`;
}

/**
 * The package that holds a device's library for a platform; undefined if there is none. `cuda` has one of its own, as it
 * is many times as large as the rest; `simt` is in the package with the addon.
 */
export function libraryPackage(platform: string, kind: LibraryKind): string | undefined {
  return kind === "cuda" && Object.hasOwn(platforms, platform) ? `${platformPackage(platform)}-${kind}` : undefined;
}
