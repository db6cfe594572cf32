// Lets Node import the official SDK, whose modules name each other as bundlers allow: without the ending of the file.
// The SDK itself is found in the directory that the variable SDK_HOME names.

import { register } from "node:module";
import { pathToFileURL } from "node:url";

if (import.meta.url.endsWith("?hooks")) {
  // this is the thread of the hooks
} else {
  register(`${import.meta.url}?hooks`);
}

export async function resolve(specifier, context, next) {
  if (specifier.startsWith("@inferencesh/")) {
    context = { ...context, parentURL: pathToFileURL(`${process.env.SDK_HOME}/program.mjs`).href };
  }
  let failure;
  for (const ending of ["", ".js", "/index.js"]) {
    try {
      return await next(specifier + ending, context);
    } catch (error) {
      if (!["ERR_MODULE_NOT_FOUND", "ERR_UNSUPPORTED_DIR_IMPORT"].includes(error.code)) throw error;
      failure ??= error;
    }
  }
  throw failure;
}
