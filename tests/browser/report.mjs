// Opens a report in headless Chromium, at desktop and phone width, light and dark, and clicks through it.
//
//   node report.mjs REPORT.html [FOLDER FOR SCREENSHOTS]
//
// Fails on a request that leaves the page, anything on the console, a serious accessibility violation, a page wider than
// its window, or a filter that does not filter. The browser is CHROMIUM, or the first of the usual names in PATH.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { resolve } from "node:path";
import { pathToFileURL } from "node:url";
import { chromium } from "playwright-core";

const [report, screenshots] = process.argv.slice(2);
if (!report) throw new Error("usage: node report.mjs REPORT.html [FOLDER FOR SCREENSHOTS]");
const address = pathToFileURL(resolve(report)).href;
const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

function browserPath() {
  if (process.env.CHROMIUM) return process.env.CHROMIUM;
  for (const name of ["chromium", "chromium-browser", "google-chrome"]) {
    try {
      return execFileSync("which", [name], { encoding: "utf8" }).trim();
    } catch { /* the next one */ }
  }
  throw new Error("no Chromium: install Debian's `chromium`, or name one in CHROMIUM");
}

const browser = await chromium.launch({ executablePath: browserPath(), args: ["--no-sandbox"] });
for (const [width, height] of [[1280, 900], [390, 844]]) {
  for (const colorScheme of ["light", "dark"]) {
    await look({ width, height, colorScheme });
  }
}
await browser.close();
console.log(`${report}: 4 looks, nothing wrong`);

async function look({ width, height, colorScheme }) {
  const name = `${width}-${colorScheme}`;
  const context = await browser.newContext({ viewport: { width, height }, colorScheme });
  const page = await context.newPage();
  const said = [], asked = [];
  page.on("console", (message) => said.push(`${message.type()}: ${message.text()}`));
  page.on("pageerror", (error) => said.push(`error: ${error.message}`));
  page.on("dialog", (dialog) => { said.push(`dialog: ${dialog.message()}`); dialog.dismiss(); });
  page.on("request", (request) => {
    const url = request.url();
    if (url !== address && !url.startsWith("data:")) asked.push(url);
  });
  await page.goto(address);

  const wide = () => page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
  assert.ok(await wide() <= 0, `${name}: the page is ${await wide()} px wider than its window`);
  if (screenshots) {
    await page.screenshot({ path: `${screenshots}/${name}.png` });
    await page.screenshot({ path: `${screenshots}/${name}-full.png`, fullPage: true });
  }

  await theme(page, colorScheme);
  for (const id of ["answers", "explained", "every-cell"]) await filter(page, id, name);
  await keyboard(page);

  // Everything unfolded, so that everything is checked.
  await page.evaluate(() => document.querySelectorAll("details").forEach((details) => { details.open = true; }));
  assert.ok(await wide() <= 0, `${name}: unfolded, the page is wider than its window`);
  if (screenshots) {
    for (const part of ["training", "figures", "judged", "predictions", "rationales", "cells"]) {
      const section = page.locator(`#${part}`);
      if (await section.count()) {
        await section.scrollIntoViewIfNeeded();
        await page.evaluate((part) => document.getElementById(part).scrollIntoView(), part);
        await page.screenshot({ path: `${screenshots}/${name}-${part}.png` });
      }
    }
  }
  await page.evaluate(axe);
  const { violations } = await page.evaluate(() => axe.run(document, { resultTypes: ["violations"] }));
  const serious = violations.filter(({ impact }) => impact === "serious" || impact === "critical");
  const words = serious.map(({ id, help, nodes }) => `${id}: ${help}, ${nodes.length} times, as in ${nodes[0].html}`);
  assert.deepEqual(words, [], `${name}: accessibility`);
  assert.deepEqual(said, [], `${name}: the console`);
  assert.deepEqual(asked, [], `${name}: requests`);
  await context.close();
}

// The button goes from the system's theme over light and dark back to it.
async function theme(page, system) {
  const back = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
  const button = page.locator("#theme"), first = await back();
  await button.click();
  const light = await back();
  await button.click();
  const dark = await back();
  assert.notEqual(light, dark, "the themes look the same");
  assert.equal(first, system === "dark" ? dark : light, "the page does not follow the system");
  await button.click();
  assert.equal(await back(), first);
}

// Words and choices hide what does not fit, and clearing them shows everything again.
async function filter(page, id, name) {
  const form = page.locator(`form[data-for="${id}"]`);
  if (!await form.count()) return;
  await form.evaluate((form) => { for (let up = form; up; up = up.parentElement) if (up.tagName === "DETAILS") up.open = true; });
  const all = page.locator(`#${id} .item`), shown = page.locator(`#${id} .item:not([hidden])`);
  const count = await all.count();
  assert.ok(count > 0, `${name}: nothing in ${id}`);
  assert.equal(await shown.count(), count);
  const search = form.locator("input[type=search]");
  await search.fill("no such words anywhere");
  assert.equal(await shown.count(), 0, `${name}: search in ${id}`);
  assert.equal(await form.locator(".count").textContent(), `0 of ${count} shown`);
  await search.fill("");
  assert.equal(await shown.count(), count);
  for (const select of await form.locator("select").all()) {
    const values = await select.locator("option").evaluateAll((options) => options.map((option) => option.value));
    let sum = 0;
    for (const value of values.filter(Boolean)) {
      await select.selectOption(value);
      sum += await shown.count();
    }
    assert.ok(sum >= count, `${name}: the choices of ${id} leave something out`);
    await select.selectOption("");
  }
  assert.equal(await shown.count(), count);
  const item = shown.first();
  if (await item.locator("> summary").count()) {
    await item.locator("> summary").click();
    assert.ok(await item.evaluate((item) => item.open), `${name}: an item of ${id} does not unfold`);
  }
}

// The first Tab leads to the skip link, and Enter on a folded part unfolds it.
async function keyboard(page) {
  await page.evaluate(() => { document.activeElement.blur(); scrollTo(0, 0); });
  await page.reload();
  await page.keyboard.press("Tab");
  assert.equal(await page.evaluate(() => document.activeElement.className), "skip");
  const summary = page.locator("#results details.notes > summary");
  if (await summary.count()) {
    await summary.first().focus();
    await page.keyboard.press("Enter");
    assert.ok(await summary.first().evaluate((summary) => summary.parentElement.open), "Enter unfolds nothing");
  }
}
