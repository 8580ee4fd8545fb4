import { homedir } from "node:os";

// Folders that the process has from its surroundings, which may lack them.

/** The folder that relative paths start from; undefined if it was removed. */
export function workingFolder(): string | undefined {
  return ifThere(() => process.cwd());
}

/** The user's folder; undefined for a user that the system does not know. */
export function homeFolder(): string | undefined {
  return ifThere(homedir);
}

function ifThere(find: () => string): string | undefined {
  try {
    return find();
  } catch {
    return undefined;
  }
}
