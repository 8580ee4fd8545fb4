import { inflateSync } from "node:zlib";

/** A decoded picture: 8 bits each of red, green, blue and, with four channels, alpha. */
export interface Picture {
  readonly width: number;
  readonly height: number;
  readonly channels: number;
  readonly pixels: Uint8Array;
}

/** A part of a picture, in pixels. */
export interface Region {
  readonly x: number;
  readonly y: number;
  readonly width: number;
  readonly height: number;
}

/** Decodes a PNG of 8-bit RGB or RGBA without interlacing, as browsers write. */
export function decodePng(file: Buffer): Picture {
  const [width, height] = [file.readUInt32BE(16), file.readUInt32BE(20)];
  const [bits, color, , , interlace] = file.subarray(24, 29);
  const channels = color === 2 ? 3 : 4;
  if (bits !== 8 || (color !== 2 && color !== 6) || interlace !== 0) throw new Error("PNG: expected 8-bit RGB or RGBA");
  const data: Buffer[] = [];
  for (let at = 8; at < file.length; ) {
    const length = file.readUInt32BE(at);
    if (file.toString("latin1", at + 4, at + 8) === "IDAT") data.push(file.subarray(at + 8, at + 8 + length));
    at += 12 + length;
  }
  return { width, height, channels, pixels: unfiltered(inflateSync(Buffer.concat(data)), width * channels, channels) };
}

/** Undoes the filters of PNG, which predict a byte from those to the left, above and above to the left. */
function unfiltered(raw: Uint8Array, stride: number, channels: number): Uint8Array {
  const rows = raw.length / (stride + 1);
  const pixels = new Uint8Array(rows * stride);
  for (let row = 0; row < rows; row++) {
    const filter = raw[row * (stride + 1)] as number;
    for (let column = 0; column < stride; column++) {
      const at = row * stride + column;
      const left = column < channels ? 0 : (pixels[at - channels] as number);
      const above = row === 0 ? 0 : (pixels[at - stride] as number);
      const corner = row === 0 || column < channels ? 0 : (pixels[at - stride - channels] as number);
      const predicted = [0, left, above, (left + above) >> 1, paeth(left, above, corner)][filter] as number;
      pixels[at] = (raw[row * (stride + 1) + 1 + column] as number) + predicted;
    }
  }
  return pixels;
}

function paeth(left: number, above: number, corner: number): number {
  const base = left + above - corner;
  const [a, b, c] = [Math.abs(base - left), Math.abs(base - above), Math.abs(base - corner)];
  return a <= b && a <= c ? left : b <= c ? above : corner;
}

/** How many pixels of a region have each colour, by red * 65536 + green * 256 + blue. */
export function colorsIn({ width, channels, pixels }: Picture, region: Region): Map<number, number> {
  const counts = new Map<number, number>();
  for (let y = Math.ceil(region.y); y < Math.floor(region.y + region.height); y++) {
    for (let x = Math.ceil(region.x); x < Math.floor(region.x + region.width); x++) {
      const at = (y * width + x) * channels;
      const color = ((pixels[at] as number) << 16) | ((pixels[at + 1] as number) << 8) | (pixels[at + 2] as number);
      counts.set(color, (counts.get(color) ?? 0) + 1);
    }
  }
  return counts;
}
