/** The version in package.json, repeated here because a bundle has no package.json to read; a test compares them. */
export const packageVersion = "0.1.0";
