import { fileURLToPath } from "node:url";
import { defineConfig, type UserConfig } from "vite";

/**
 * What is built, by the variable `SDK`:
 *
 * - nothing: the published file, one ES module; the MessagePack library stays a dependency
 * - `page`: everything in one file, `/sdk/tickerplant.js` of the server, for pages that have no build of their own
 * - `size`: the same, where the check of the size looks for it
 */
const OUT: Record<string, string> = { page: "../dist/sdk", size: "../node_modules/.cache/sdk-size" };
const kind = process.env["SDK"];
const whole = kind !== undefined;

const config: UserConfig = {
  root: fileURLToPath(new URL(".", import.meta.url)),
  build: {
    target: "es2022",
    outDir: kind === undefined ? "dist" : (OUT[kind] ?? kind),
    emptyOutDir: true,
    minify: whole ? "oxc" : false,
    lib: { entry: "src/index.ts", formats: ["es"], fileName: () => (kind === "page" ? "tickerplant.js" : "index.js") },
    rolldownOptions: { external: whole ? [] : ["@msgpack/msgpack"] },
  },
};
export default defineConfig(config);
