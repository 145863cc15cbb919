// Draw vector images as PNG files.
//
// usage: node render.mjs jobs.json
//
// jobs.json is a list of {"svg": "<svg ...>", "out": "file.png", "width": 64},
// written by emoji.py. The images keep their transparency: emoji.py puts every
// artist on the same white background, so that this is done in one place only.

import { readFileSync, writeFileSync } from "node:fs";
import { Resvg } from "@resvg/resvg-js";

const jobs = JSON.parse(readFileSync(process.argv[2], "utf8"));
for (const { svg, out, width } of jobs) {
  // No picture needs a font, and looking for the machine's fonts would make the
  // result depend on it.
  const resvg = new Resvg(svg, {
    fitTo: { mode: "width", value: width },
    font: { loadSystemFonts: false },
  });
  writeFileSync(out, resvg.render().asPng());
}
console.log(`rendered ${jobs.length} vector images`);
