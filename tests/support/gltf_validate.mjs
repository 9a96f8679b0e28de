// node gltf_validate.mjs NODE_MODULES FILE -> the Khronos validator's report as JSON on stdout
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join, resolve } from "node:path";

const [modules, file] = process.argv.slice(2);
const validator = createRequire(join(resolve(modules), "x.js"))(join(resolve(modules), "gltf-validator"));
const report = await validator.validateBytes(new Uint8Array(readFileSync(file)), { maxIssues: 0 });
console.log(JSON.stringify(report));
