import type { Draw } from "./draw.js";

// Damage to files: bytes, and JSON that is still JSON.

const jsonValues = [
  "null",
  "true",
  "-1",
  "0",
  "1",
  "7",
  "1e300",
  "-1e-300",
  "1e999",
  "4294967296",
  "9007199254740993",
  '""',
  '"F32"',
  '"x"',
  "[]",
  "{}",
  "[1, 2]",
  "[[[[[1]]]]]",
  '{"__proto__": {"a": 1}}',
  "9".repeat(400),
  "[".repeat(2000),
  '"\\u0000\\ud800"',
  '"/etc/passwd"',
  '"../x.safetensors"',
];

/** Bytes with some damage: a bit, a stretch, the end, or a number in them. */
export function damaged(draw: Draw, bytes: Uint8Array): Uint8Array {
  const copy = Uint8Array.from(bytes);
  if (copy.length === 0) return Uint8Array.of(draw.integer(0, 255));
  // Most of what matters is in the first bytes.
  const at = draw.chance(0.5) ? draw.integer(0, Math.min(copy.length, 400) - 1) : draw.integer(0, copy.length - 1);
  switch (draw.integer(0, 6)) {
    case 0:
      copy[at] = (copy[at] as number) ^ (1 << draw.integer(0, 7));
      return copy;
    case 1:
      return copy.slice(0, at);
    case 2:
      return joined(
        copy.subarray(0, at),
        Uint8Array.from({ length: draw.integer(1, 16) }, () => draw.integer(0, 255)),
        copy.subarray(at),
      );
    case 3:
      return joined(copy.subarray(0, at), copy.subarray(at + draw.integer(1, 16)));
    case 4:
      copy.fill(draw.pick([0, 0xff, 0x20]), at, at + draw.integer(1, 16));
      return copy;
    case 5:
      if (copy.length < 8) return copy.slice(0, at);
      new DataView(copy.buffer).setBigUint64(
        0,
        draw.pick([0n, 1n, BigInt(copy.length), 2n ** 32n, 2n ** 53n, 2n ** 64n - 1n]),
        true,
      );
      return copy;
    default:
      return joined(copy, copy.subarray(at));
  }
}

function joined(...parts: readonly Uint8Array[]): Uint8Array {
  return Uint8Array.from(Buffer.concat(parts));
}

/** JSON text with one value replaced, removed, renamed or given twice. */
export function damagedJson(draw: Draw, text: string): string {
  const places: number[] = [];
  const marked = JSON.stringify(JSON.parse(text), (_, value) => value);
  // Values begin after a colon, a comma or an opening bracket.
  for (const { index } of marked.matchAll(/[:,[{]/g)) places.push(index + 1);
  const at = draw.pick(places);
  const end = valueEnd(marked, at);
  const [before, value, after] = [marked.slice(0, at), marked.slice(at, end), marked.slice(end)];
  switch (draw.integer(0, 3)) {
    case 0:
      return before + draw.pick(jsonValues) + after;
    case 1:
      return before + after;
    case 2:
      return `${before}${value},${value}${after}`;
    default:
      return before + value.replace(/[a-z0-9]/i, draw.pick(["x", "0", "9", "-", "\\u0000"])) + after;
  }
}

/** Where the value or name that begins at `start` ends. */
function valueEnd(text: string, start: number): number {
  let depth = 0;
  for (let at = start; at < text.length; at++) {
    const character = text[at] as string;
    if (character === '"') {
      at = text.indexOf('"', at + 1);
      if (at < 0) return text.length;
    } else if ("[{".includes(character)) depth++;
    else if ("]}".includes(character) && --depth < 0) return at;
    else if (",:".includes(character) && depth === 0) return at;
  }
  return text.length;
}

/** A safetensors file whose header is other JSON, with the length that goes with it. */
export function damagedHeader(draw: Draw, bytes: Uint8Array): Uint8Array {
  const length = Number(new DataView(bytes.buffer, bytes.byteOffset).getBigUint64(0, true));
  const header = new TextDecoder().decode(bytes.subarray(8, 8 + length));
  const text = new TextEncoder().encode(damagedJson(draw, header));
  const file = new Uint8Array(8 + text.length + bytes.length - 8 - length);
  new DataView(file.buffer).setBigUint64(0, BigInt(text.length), true);
  file.set(text, 8);
  file.set(bytes.subarray(8 + length), 8 + text.length);
  return file;
}
