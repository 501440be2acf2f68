const PAGE = 100;
const { rows, groups } = JSON.parse(document.getElementById("data").textContent);
const blocks = [...document.querySelectorAll(".block")], opened = new Map();
const list = document.getElementById("list"), more = document.getElementById("more"), search = document.getElementById("search");
const sort = document.getElementById("sort"), state = { show: "all", groups: {}, found: [], shown: 0 };

const isMixed = (row) => row.right > 0 && row.right < row.answers;
const kinds = {
  all: () => true,
  right: (row) => row.share === 1,
  wrong: (row) => row.share !== null && row.share < 1,
  mixed: isMixed,
  ungraded: (row) => row.share === null,
};
for (const row of rows) row.words = [row.id, row.question, row.references, row.answer, row.reason].join("\n").toLowerCase();

function openBlock(index) {
  if (!opened.has(index)) {
    const { readable, writable } = new DecompressionStream("gzip"), writer = writable.getWriter();
    writer.write(Uint8Array.from(atob(blocks[index].textContent), (c) => c.charCodeAt(0)));
    writer.close();
    opened.set(index, new Response(readable).json());
  }
  return opened.get(index);
}

function mark(row) {
  if (row.share === null) return ["?", "ungraded"];
  if (row.share === 1) return ["✓", "right"];
  return row.share === 0 ? ["✗", "wrong"] : ["◐", "part"];
}

const round = (value) => (Number.isInteger(value) ? String(value) : value.toFixed(1));

async function toggle(item, row, button) {
  const isOpen = item.classList.toggle("open");
  button.setAttribute("aria-expanded", isOpen);
  if (!isOpen) { item.querySelector(".body").remove(); return; }
  const body = element("div", "", "body"), verdict = element("div", "", "verdict");
  const facts = [row.id, row.reason, row.extraction === "none" ? "no answer found" : `answer found by: ${row.extraction.replaceAll("_", " ")}`];
  if (row.answers > 1) facts.push(`${row.right} of ${row.answers} answers right`);
  facts.push(...Object.entries(row.groups).map(([key, value]) => `${key.replaceAll("_", " ")}: ${value}`));
  verdict.append(...facts.filter(Boolean).map((fact) => element("span", fact)));
  body.append(verdict);
  item.append(body);
  if (!row.position) { body.append(element("p", "No tree of this question on this page.", "note")); return; }
  const html = (await openBlock(row.position[0]))[row.position[1]];
  const trees = element("div");
  trees.innerHTML = html;
  for (const tree of trees.querySelectorAll(".tree")) bindTree(tree);
  body.append(trees);
}

function makeItem(row) {
  const item = element("div", "", "item"), button = element("button", "", "row"), [symbol, name] = mark(row);
  button.type = "button";
  button.setAttribute("aria-expanded", "false");
  const sign = element("span", symbol, `mark ${name}`);
  sign.setAttribute("aria-label", name);
  button.append(
    sign, element("span", row.question, "text"), element("span", row.references, "text"),
    element("span", row.answer || "–", `text given ${name}`), element("span", round(row.calls), "number"),
    element("span", round(row.tokens), "number"),
  );
  button.addEventListener("click", () => toggle(item, row, button));
  item.append(button);
  return item;
}

function showMore() {
  const next = state.found.slice(state.shown, state.shown + PAGE);
  list.append(...next.map(makeItem));
  state.shown += next.length;
  more.hidden = state.shown >= state.found.length;
  document.getElementById("count").textContent = `${state.found.length} of ${rows.length}`;
}

function matches(row) {
  const words = search.value.toLowerCase().trim();
  return (!words || row.words.includes(words)) && Object.entries(state.groups).every(([key, value]) => !value || row.groups[key] === value);
}

function update() {
  const matching = rows.filter(matches);
  for (const button of document.querySelectorAll("[data-show]")) {
    const count = matching.filter(kinds[button.dataset.show]).length;
    button.querySelector("span").textContent = count;
    button.setAttribute("aria-pressed", button.dataset.show === state.show);
    button.hidden = ["mixed", "ungraded"].includes(button.dataset.show) && !rows.some(kinds[button.dataset.show]);
  }
  state.found = matching.filter(kinds[state.show]);
  if (sort.value === "share") state.found.sort((a, b) => (a.share ?? 2) - (b.share ?? 2) || a.right - b.right);
  else if (sort.value) state.found.sort((a, b) => b[sort.value] - a[sort.value]);
  state.shown = 0;
  list.replaceChildren();
  if (state.found.length) {
    const head = element("div", "", "row listhead");
    head.append(...["", "question", "reference", "answer", "calls", "tokens"].map((name, i) => element("span", name, i > 3 ? "number" : "")));
    list.append(head);
  }
  showMore();
}

for (const [key, values] of Object.entries(groups)) {
  const select = element("select");
  select.setAttribute("aria-label", key);
  select.append(new Option(`any ${key.replaceAll("_", " ")}`, ""), ...values.map((value) => new Option(value, value)));
  select.addEventListener("change", () => { state.groups[key] = select.value; update(); });
  document.querySelector(".selects").append(select);
}
for (const button of document.querySelectorAll("[data-show]")) button.addEventListener("click", () => { state.show = button.dataset.show; update(); });
search.addEventListener("input", update);
sort.addEventListener("change", update);
more.addEventListener("click", showMore);
addEventListener("keydown", (event) => {
  if (event.key === "/" && document.activeElement !== search) { event.preventDefault(); search.focus(); }
});
update();
