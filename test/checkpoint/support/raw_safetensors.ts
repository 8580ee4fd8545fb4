/** A file with any header and data, valid or not; a header that is not a string is written as JSON. */
export function rawSafetensors(header: unknown, data: Uint8Array | number = 0): Uint8Array {
  const json = Buffer.from(typeof header === "string" ? header : JSON.stringify(header));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(json.byteLength));
  return Buffer.concat([length, json, typeof data === "number" ? new Uint8Array(data) : data]);
}
