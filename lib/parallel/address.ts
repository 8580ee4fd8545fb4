import { isIPv6 } from "node:net";
import { unexpected } from "../core/errors.js";
import { type Reader, text } from "../core/input/options.js";

/** Where banks are served: a host and a port, or a socket in the file system. */
export type Place = { readonly host: string; readonly port: number } | { readonly path: string };

/** Reads an address: HOST:PORT, [IPV6]:PORT, or the path of a socket, which has a slash. */
export const address: Reader<Place> = (value, name) => {
  const given = text(value, name);
  // Longer ones the system would cut off.
  if (given.includes("/") && Buffer.byteLength(given) <= longestPath) return { path: given };
  const [, inBrackets, plain, digits] = /^(?:\[([^\]]+)\]|([^:[\]/\s]+)):(\d{1,5})$/.exec(given) ?? [];
  const [host, port] = [inBrackets ?? plain, Number(digits)];
  if (host !== undefined && port <= 65535 && (inBrackets === undefined || isIPv6(inBrackets))) return { host, port };
  throw unexpected(name, `HOST:PORT, or the path of a socket with a "/" and at most ${longestPath} bytes`, given);
};

/** Bytes of the longest path that every system takes. */
const longestPath = 103;

/** An address as {@link address} reads it. */
export function addressText(place: Place): string {
  if ("path" in place) return place.path;
  return `${isIPv6(place.host) ? `[${place.host}]` : place.host}:${place.port}`;
}
