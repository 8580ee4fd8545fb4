import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

// A registry for npm and pnpm on this machine: it answers the two requests of an installation, for a package's versions and
// for a tarball, and knows nothing but the tarballs of a folder. Verdaccio, the usual program for this, needs Node 22 and
// brings more packages than the whole project has.

interface Manifest {
  readonly name: string;
  readonly version: string;
  readonly scripts?: { readonly install?: string };
}

interface Packed {
  readonly manifest: Manifest;
  readonly file: string;
  readonly content: Buffer;
}

/** Serves the tarballs of a folder on a free port, until the server is closed. */
export async function startRegistry(folder: string): Promise<{ url: string; server: Server }> {
  const packages = readdirSync(folder)
    .filter((file) => file.endsWith(".tgz"))
    .map((file) => readPackage(folder, file));
  const server = createServer(({ url: requested = "" }, response) => {
    const path = decodeURIComponent(requested.slice(1));
    const tarball = packages.find(({ file }) => path === `-/${file}`);
    const versions = packages.filter(({ manifest }) => manifest.name === path);
    if (tarball !== undefined) response.end(tarball.content);
    else if (versions.length > 0) response.end(JSON.stringify(metadata(versions, `http://${address()}`)));
    else response.writeHead(404).end(`{"error":"${folder} has no such package"}`);
  });
  const address = (): string => `127.0.0.1:${(server.address() as AddressInfo).port}`;
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return { url: `http://${address()}/`, server };
}

function readPackage(folder: string, file: string): Packed {
  const path = join(folder, file);
  // Their manifest is in a folder that is "package" by custom only.
  const manifest = execFileSync("tar", ["-xzOf", path, "--wildcards", "--no-wildcards-match-slash", "*/package.json"]);
  return { manifest: JSON.parse(manifest.toString("utf8")), file, content: readFileSync(path) };
}

function metadata(packages: readonly Packed[], url: string): object {
  const versions = packages.map(({ manifest, file, content }) => {
    const integrity = `sha512-${createHash("sha512").update(content).digest("base64")}`;
    const dist = { tarball: `${url}/-/${file}`, integrity };
    return { ...manifest, dist, hasInstallScript: manifest.scripts?.install !== undefined };
  });
  return {
    name: packages[0]?.manifest.name,
    "dist-tags": { latest: versions.at(-1)?.version },
    versions: Object.fromEntries(versions.map((version) => [version.version, version])),
  };
}

// As a program: prints its address.
if (import.meta.url === pathToFileURL(process.argv[1] ?? "").href) {
  const { url } = await startRegistry(process.argv[2] ?? ".");
  process.stdout.write(`${url}\n`);
}
