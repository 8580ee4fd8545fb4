import { messageOf } from "../errors.js";

/** Why a call of the file system failed, and what to do if it was Node's permission model. */
export function reasonOf(cause: unknown): string {
  const { code, permission } = Object(cause) as { code?: unknown; permission?: unknown };
  if (code !== "ERR_ACCESS_DENIED") return messageOf(cause);
  const flag = permission === "FileSystemWrite" ? "--allow-fs-write" : "--allow-fs-read";
  return `Node's permission model does not allow it; start Node with ${flag} for the folder that this is in`;
}
