// Makes the tarballs of a release: this platform's package with the addon, and the main package, whose manifest then names
// the packages of all platforms. The repository's own manifest does not, as their names exist only once they are published.
import { spawnSync } from "node:child_process";
import {
  copyFileSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { dirname, join, relative, resolve } from "node:path";
import { addonFile, platformName, platformPackage, platforms } from "../dist/core/addon/platforms.js";
import { buildNative, root, strip } from "./build_native.mjs";
import { readOptions, wrongOption } from "./options.mjs";
import { newerThan, symbolVersions } from "./symbol_versions.mjs";

const usage = `Usage: npm run prebuild -- [--out FOLDER] [--addon FILE] [--any-glibc]

Makes two tarballs in FOLDER (build/packages): the package of this platform, with the addon, and moe-kernels itself.
--addon takes a built addon instead of building one. An addon that needs a newer glibc than the platform's package
promises is refused; --any-glibc makes packages for machines like this one.`;
const { values } = readOptions(usage, {
  options: {
    out: { type: "string", default: join("build", "packages") },
    addon: { type: "string" },
    "any-glibc": { type: "boolean", default: false },
  },
});
const platform = platformName();
if (!Object.hasOwn(platforms, platform)) {
  fail(
    `${platform} is not published: expected ${Object.keys(platforms).join(", ")}; add a line to lib/core/addon/platforms.ts`,
  );
}
const addon = values.addon === undefined ? build() : resolve(values.addon);
if (!existsSync(addon)) wrongOption(usage, `--addon: ${addon} not found`);
const out = resolve(values.out);
mkdirSync(out, { recursive: true });
const staging = mkdtempSync(join(tmpdir(), "moe-kernels-"));
try {
  const manifest = JSON.parse(readFileSync(join(root, "package.json"), "utf8"));
  packPlatform(manifest);
  packMain(manifest);
} finally {
  rmSync(staging, { recursive: true });
}

/** Builds the addon without the tests' operators, which the one that setup builds contains. */
function build() {
  const folder = join("build", "prebuild");
  const failure = buildNative({ out: folder, defines: { MOE_BUILD_TESTS: "OFF", MOE_STATIC_RUNTIME: "ON" } });
  if (failure !== undefined) fail(failure);
  return join(root, folder, "Release", addonFile);
}

function packPlatform({ version, license, engines }) {
  const folder = join(staging, "platform");
  mkdirSync(folder);
  const file = join(folder, addonFile);
  copyFileSync(addon, file);
  const unstripped = strip(file);
  if (unstripped !== undefined) fail(`not stripped: ${unstripped}`);
  const needs = checkVersions(file);
  const cuda = cudaVersionOf(file);
  const { os, cpu, libc } = platforms[platform];
  const devices = cuda ? `cpu, simt and cuda (built with CUDA ${cuda})` : "cpu and simt (built without cuda)";
  const manifest = {
    name: platformPackage(platform),
    version,
    description: `The native addon of moe-kernels for ${platform}`,
    license,
    engines,
    os: [os],
    cpu: [cpu],
    ...(libc === undefined ? {} : { libc: [libc] }),
    main: addonFile,
    files: [addonFile],
    preferUnplugged: true, // a library cannot be loaded from within an archive
  };
  const readme = `# ${manifest.name}

The native addon of [moe-kernels](https://www.npmjs.com/package/moe-kernels) for ${platform}. Install moe-kernels, which
depends on it.

Devices: ${devices}. Needs: ${needs}.
`;
  writeManifest(folder, manifest);
  writeFileSync(join(folder, "README.md"), readme);
  copyFileSync(join(root, "LICENSE"), join(folder, "LICENSE"));
  pack(folder, `${devices}; needs ${needs}`);
}

/** The files that npm would pack from the repository, with the manifest that users need. */
function packMain({ devDependencies: _, imports: __, scripts, ...manifest }) {
  const folder = join(staging, "main");
  const [{ files }] = JSON.parse(npm(["pack", "--dry-run", "--json", "--ignore-scripts"], root));
  for (const { path } of files) {
    mkdirSync(dirname(join(folder, path)), { recursive: true });
    cpSync(join(root, path), join(folder, path));
  }
  const names = Object.keys(platforms).map(platformPackage);
  writeManifest(folder, {
    ...manifest,
    scripts: { install: scripts.install },
    optionalDependencies: Object.fromEntries(names.map((name) => [name, manifest.version])),
  });
  pack(folder, `takes its addon from ${names.join(", ")}`);
}

function writeManifest(folder, manifest) {
  writeFileSync(join(folder, "package.json"), `${JSON.stringify(manifest, null, 2)}\n`);
}

function pack(folder, about) {
  const [{ filename }] = JSON.parse(npm(["pack", "--json", "--ignore-scripts", "--pack-destination", out], folder));
  const path = join(out, filename);
  console.log(`${relative(process.cwd(), path)}: ${(statSync(path).size / 2 ** 20).toFixed(1)} MiB; ${about}`);
}

/** What the addon needs of the system, in words. */
function checkVersions(file) {
  const versions = symbolVersions(file);
  const needs = Object.entries(versions).map(([library, version]) => `${library} ${version}`);
  const { glibc } = platforms[platform];
  if (glibc === undefined || values["any-glibc"]) return needs.join(", ");
  if (newerThan(versions.GLIBC, glibc)) {
    fail(`the addon needs glibc ${versions.GLIBC}, expected ${glibc} at most: build it on an older system`);
  }
  if (versions.GLIBCXX !== undefined) {
    fail(`the addon needs the C++ library ${versions.GLIBCXX}, expected none: build it with MOE_STATIC_RUNTIME=ON`);
  }
  return needs.join(", ");
}

function cudaVersionOf(file) {
  return createRequire(import.meta.url)(file).buildInfo().cuda;
}

function npm(args, cwd) {
  const { status, error, stdout, stderr } = spawnSync("npm", args, { cwd, encoding: "utf8" });
  if (error || status !== 0) fail(`npm ${args.join(" ")}: ${error?.message ?? stderr}`);
  return stdout;
}

function fail(reason) {
  console.error(`prebuild: ${reason}`);
  process.exit(1);
}
