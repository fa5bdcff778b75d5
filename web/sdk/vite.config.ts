import { fileURLToPath } from "node:url";
import { defineConfig } from "vite";

/** The published file: one ES module; the MessagePack library stays a dependency. `BUNDLE=1` takes it in, for the size. */
export default defineConfig({
  root: fileURLToPath(new URL(".", import.meta.url)),
  build: {
    target: "es2022",
    outDir: process.env["BUNDLE"] === undefined ? "dist" : "../node_modules/.cache/sdk-size",
    emptyOutDir: true,
    minify: process.env["BUNDLE"] === undefined ? false : "oxc",
    lib: { entry: "src/index.ts", formats: ["es"], fileName: () => "index.js" },
    rolldownOptions: { external: process.env["BUNDLE"] === undefined ? ["@msgpack/msgpack"] : [] },
  },
});
