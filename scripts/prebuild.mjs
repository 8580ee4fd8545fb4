// Makes the tarballs of a release: this platform's package with the addon and the simt device, one with the cuda device,
// which is many times as large, and the main package, whose manifest then names the packages with addons. The repository's
// own manifest does not, as their names exist only once they are published.
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
import { tmpdir } from "node:os";
import { basename, dirname, join, relative, resolve } from "node:path";
import {
  addonFile,
  libraryFile,
  libraryPackage,
  platformName,
  platformPackage,
  platforms,
} from "../dist/core/addon/platforms.js";
import { buildNative, root, strip } from "./build_native.mjs";
import { readOptions, wrongOption } from "./options.mjs";
import { newerThan, symbolVersions } from "./symbol_versions.mjs";

const usage = `Usage: npm run prebuild -- [--out FOLDER] [--addon FILE] [--any-glibc]

Makes the tarballs of a release in FOLDER (build/packages): the package of this platform with the addon and the simt device,
one with the cuda device where there is an nvcc, and moe-kernels itself. --addon takes a built addon, with the libraries of
devices beside it, instead of building them. An addon that needs a newer glibc than the platform's package
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

/**
 * Builds everything without the tests' operators, which the addon that setup builds contains. The cuda device has machine
 * code for every GPU that is sold, and PTX for later ones.
 */
function build() {
  const folder = join("build", "prebuild");
  const failure = buildNative({
    out: folder,
    defines: {
      MOE_BUILD_TESTS: "OFF",
      MOE_STATIC_RUNTIME: "ON",
      MOE_CUDA_ARCHITECTURES: "80-real;89-real;90a-real;100-real;120-real;120-virtual",
    },
  });
  if (failure !== undefined) fail(failure);
  return join(root, folder, "Release", addonFile);
}

function packPlatform(manifest) {
  const simt = join(dirname(addon), libraryFile("simt"));
  packFiles(manifest, {
    name: platformPackage(platform),
    files: [addon, ...(existsSync(simt) ? [simt] : [])],
    about: `The native addon of moe-kernels for ${platform}`,
    text: "Install moe-kernels, which depends on it.",
  });
  const cuda = join(dirname(addon), libraryFile("cuda"));
  if (!existsSync(cuda)) {
    console.log(`${relative(process.cwd(), cuda)} not found, so there is no package with the cuda device`);
    return;
  }
  packFiles(manifest, {
    name: libraryPackage(platform, "cuda"),
    files: [cuda],
    about: `The cuda device of moe-kernels for ${platform}`,
    text: "Install it beside moe-kernels, which finds it.",
  });
}

/** Packs native libraries for this platform. */
function packFiles({ version, license, engines }, { name, files, about, text }) {
  const folder = join(staging, name);
  mkdirSync(folder, { recursive: true });
  const names = files.map((file) => basename(file));
  const needs = files.map((file) => {
    const copy = join(folder, basename(file));
    copyFileSync(file, copy);
    const unstripped = strip(copy);
    if (unstripped !== undefined) fail(`not stripped: ${unstripped}`);
    return checkVersions(copy);
  });
  const { os, cpu, libc } = platforms[platform];
  writeManifest(folder, {
    name,
    version,
    description: about,
    license,
    engines,
    os: [os],
    cpu: [cpu],
    ...(libc === undefined ? {} : { libc: [libc] }),
    main: names[0],
    files: names,
    preferUnplugged: true, // a library cannot be loaded from within an archive
  });
  const readme = `# ${name}

${about}. [moe-kernels](https://www.npmjs.com/package/moe-kernels) loads it. ${text}

Files: ${names.join(", ")}. Needs: ${[...new Set(needs)].join("; ")}.
`;
  writeFileSync(join(folder, "README.md"), readme);
  copyFileSync(join(root, "LICENSE"), join(folder, "LICENSE"));
  pack(folder, `${names.join(", ")}; needs ${[...new Set(needs)].join("; ")}`);
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

function npm(args, cwd) {
  const { status, error, stdout, stderr } = spawnSync("npm", args, { cwd, encoding: "utf8" });
  if (error || status !== 0) fail(`npm ${args.join(" ")}: ${error?.message ?? stderr}`);
  return stdout;
}

function fail(reason) {
  console.error(`prebuild: ${reason}`);
  process.exit(1);
}
