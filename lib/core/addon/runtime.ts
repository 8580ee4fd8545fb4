/** The runtimes that call themselves Node, and say what they are in `process.versions`. */
const others = ["bun", "deno", "electron"];

/** The JavaScript runtime of this process and its version: `node v22.12.0`, or `bun 1.3.0 (as node v24.3.0)`. */
export function runtimeName(): string {
  const { version, versions } = process;
  const other = others.find((name) => versions[name] !== undefined);
  return other === undefined ? `node ${version}` : `${other} ${versions[other]} (as node ${version})`;
}
