import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { writeRouterReport } from "../../lib/statistics/router_report.js";
import { temporaryDirectory } from "../checkpoint/support/temporary_directory.js";
import { Browser } from "../support/browser.js";
import { colorsIn, decodePng, type Region } from "../support/png.js";
import { needs } from "../support/requirements.js";
import { historyOf } from "./support/history.js";

// The page in a browser: what it says after clicks and keys, and whether its pictures show anything. Not how its text looks.

const directory = temporaryDirectory();
const path = join(directory.path, "report.html");
const idle = historyOf([]);
/** Expert 0 gets more with every call; expert 3 gets none. */
const growing = historyOf(Array.from({ length: 20 }, (_, call) => [call, 5, 2, 0]));
/** In each of 400 calls all tokens go to one of 32 experts. */
const turning = historyOf(
  Array.from({ length: 400 }, (_, call) => Array.from({ length: 32 }, (_, id) => (id === call % 32 ? 8 : 0))),
);
const wide = { width: 1100, height: 900 };

afterAll(() => directory[Symbol.dispose]());

describe("a router report in chromium", needs("Linux", "chromium"), () => {
  let browser: Browser;
  beforeAll(async () => {
    const routers = [
      { name: "layer 1", history: growing, dtype: "bf16" },
      { name: "layer <2>", history: turning, dtype: "f16, experts in i4_g32_bf16" },
      { name: "layer 5", history: idle },
    ];
    await writeRouterReport(routers, path, { title: "A model", device: "cpu", about: "Tokens of this test." });
    browser = await Browser.start();
  });
  afterAll(() => browser?.close());

  const text = (id: string) => browser.evaluate<string>(`document.getElementById("${id}").innerText`);
  const facts = async () =>
    Object.fromEntries(
      await browser.evaluate<[string, string][]>(
        `[...document.querySelectorAll("#facts div")].map((fact) => [...fact.children].map(({ innerText }) => innerText))`,
      ),
    );
  const regionOf = (selector: string) =>
    browser.evaluate<Region>(`(({ x, y, width, height }) => ({ x: x + scrollX, y: y + scrollY, width, height }))(
      document.querySelector(${JSON.stringify(selector)}).getBoundingClientRect())`);
  const state = async () => [await text("heading"), await text("shown"), await browser.evaluate("location.hash")];

  test("shows the first layer, all calls together, and asks for nothing but itself", async () => {
    browser.requests.length = 0;
    await browser.open(path, wide);
    expect(await state()).toEqual(["layer 1", "all calls together", ""]);
    expect(await facts()).toEqual({
      calls: "20",
      tokens: "330",
      "dropped choices": "0 of 330",
      "experts without tokens": "1 of 4",
      "maximum violation, all calls together": "1.303",
      "mean entropy": "1.000",
    });
    expect(await text("violationAll")).toBe("of all calls together: 1.303");
    expect(browser.requests.filter((address) => address.startsWith("file:"))).toHaveLength(1);
    expect(browser.requests.filter((address) => !/^(?:file|about):/.test(address))).toEqual([]);
  });

  test("a step is chosen by clicks and keys, and stays chosen in the address", async () => {
    await browser.open(path, wide);
    await browser.evaluate(`document.getElementById("plots").scrollIntoView({ behavior: "instant" })`);
    const heat = await regionOf("#heat");
    const scrolled = await browser.evaluate<number>("scrollY");
    // Column 17 of 20, row 1 of 4.
    await browser.click(heat.x + (17.5 / 20) * heat.width, heat.y - scrolled + (1.5 / 4) * heat.height);
    expect(await state()).toEqual(["layer 1", "step 18 of 20, call 17", "#layer=0&step=18"]);
    expect(await text("pointed")).toBe("Expert 1, step 18 of 20, call 17: 5 tokens, 0.83 × mean");
    expect(await facts()).toMatchObject({ tokens: "24", "maximum violation, of this step": "1.833" });
    const numbers = `[...document.querySelectorAll("#numbers td")].map(({ textContent }) => textContent).join(" ")`;
    expect(await browser.evaluate(numbers)).toBe("0 17 2.83 1 5 0.83 2 2 0.33 3 0 0.00");
    const cursor = await regionOf("#heat .cursor");
    expect(cursor.x + cursor.width / 2).toBeCloseTo(heat.x + (17.5 / 20) * heat.width, -1);
    await browser.evaluate(`document.getElementById("step").focus()`);
    await browser.press("ArrowRight");
    expect(await state()).toEqual(["layer 1", "step 19 of 20, call 18", "#layer=0&step=19"]);
    await browser.press("Home");
    expect(await state()).toEqual(["layer 1", "all calls together", "#layer=0&step=0"]);
  });

  test("a layer is chosen by the list, by the table and by the address", async () => {
    await browser.open(path, wide, "#layer=1&step=3");
    // 400 calls are joined to 100 steps of four.
    expect(await state()).toEqual(["layer <2>", "step 3 of 100, calls 8–11", "#layer=1&step=3"]);
    expect(await facts()).toMatchObject({ calls: "4", "experts without tokens": "28 of 32" });
    const marked = `[...document.querySelectorAll("#layers tbody tr")].map((row) => row.getAttribute("aria-current"))`;
    expect(await browser.evaluate(marked)).toEqual(["false", "true", "false"]);
    await browser.evaluate(`{
      const list = document.getElementById("layer");
      list.value = 0;
      list.dispatchEvent(new Event("change"));
    }`);
    expect(await state()).toEqual(["layer 1", "step 3 of 20, call 2", "#layer=0&step=3"]);
    await browser.evaluate(`document.querySelector("#layers a[href='#layer=2']").click()`);
    await browser.evaluate("new Promise((resolve) => setTimeout(resolve))");
    expect(await state()).toEqual(["layer 5", "all calls together", "#layer=2"]);
    expect(await text("nothing")).toBe("No calls were recorded.");
    expect(await browser.evaluate(`document.getElementById("plots").hidden`)).toBe(true);
  });

  test("an address that names nothing shows the nearest", async () => {
    await browser.open(path, wide, "#layer=9&step=-4");
    expect((await state()).slice(0, 2)).toEqual(["layer 5", "all calls together"]);
    await browser.open(path, wide, "#layer=0&step=900");
    expect((await state()).slice(0, 2)).toEqual(["layer 1", "step 20 of 20, call 19"]);
    await browser.open(path, wide, "#layer=x");
    expect((await state()).slice(0, 2)).toEqual(["layer 1", "all calls together"]);
  });

  test.each([
    ["wide", wide, 0xffffff],
    ["narrow", { width: 390, height: 800 }, 0xffffff],
    ["dark", { ...wide, dark: true }, 0x17191c],
    ["narrow and dark", { width: 390, height: 800, dark: true }, 0x17191c],
  ])("a %s window shows every chart on its paper, and scrolls only downwards", async (_, view, paper) => {
    await browser.open(path, view, "#layer=1&step=50");
    const size = await browser.evaluate<Region>(
      "({ width: document.documentElement.clientWidth, height: document.documentElement.scrollHeight })",
    );
    expect(await browser.evaluate("document.documentElement.scrollWidth")).toBe(size.width);
    const legends = `[...document.querySelectorAll(".under")].map(({ clientWidth }) => clientWidth)`;
    expect(Math.min(...(await browser.evaluate<number[]>(legends)))).toBeGreaterThan(0.7 * size.width);
    const picture = decodePng(await browser.screenshot());
    expect(picture.width).toBe(size.width);
    expect(picture.height).toBeGreaterThanOrEqual(size.height);
    const all = { x: 0, y: 0, width: picture.width, height: picture.height };
    const [[most] = []] = [...colorsIn(picture, all)].sort(([, a], [, b]) => b - a);
    expect(most).toBe(paper);
    for (const selector of [
      "h1",
      "#layers",
      "#facts",
      "#heat",
      "#scale",
      "#violation",
      "#entropy",
      "#bars",
      ".terms",
    ]) {
      const region = await regionOf(selector);
      expect(region.width, selector).toBeGreaterThan(40);
      const shown = { ...region, width: Math.min(region.width, picture.width - region.x) };
      const ink = [...colorsIn(picture, shown)].filter(([color]) => color !== paper);
      expect(
        ink.reduce((sum, [, count]) => sum + count, 0),
        selector,
      ).toBeGreaterThan(100);
    }
  });

  test("a cell of the heat map has the colour of its load, or none", async () => {
    await browser.open(path, wide);
    const { x, y, width, height } = await regionOf("#heat canvas");
    const picture = decodePng(await browser.screenshot());
    const at = (column: number, row: number) => {
      const cell = { x: x + (column / 20) * width, y: y + (row / 4) * height, width: width / 20, height: height / 4 };
      const inner = { x: cell.x + 4, y: cell.y + 4, width: cell.width - 8, height: cell.height - 8 };
      return [...colorsIn(picture, inner).keys()];
    };
    // The largest load of all is that of expert 0 in the last call, with 19 of 26 tokens.
    expect(at(19, 0)).toEqual([0xfde725]);
    expect(at(0, 0)).toEqual([0xffffff]);
    expect(at(11, 3)).toEqual([0xffffff]);
    expect(at(2, 0)).toHaveLength(1);
    expect(at(2, 0)).not.toEqual(at(12, 0));
  });
});
