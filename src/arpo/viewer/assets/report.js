"use strict";

const element = (tag, text = "", className = "") => Object.assign(document.createElement(tag), { textContent: text, className });

for (const plot of document.querySelectorAll(".plot")) {
  const svg = plot.querySelector("svg"), tip = plot.querySelector(".tip");
  const points = JSON.parse(plot.querySelector("script").textContent);
  const width = svg.viewBox.baseVal.width, height = svg.viewBox.baseVal.height;
  const cursor = document.createElementNS("http://www.w3.org/2000/svg", "line");
  cursor.setAttribute("class", "cursor");
  let current = -1;

  const show = (index) => {
    current = index;
    const point = points[index];
    for (const [name, value] of Object.entries({ x1: point.x, x2: point.x, y1: 14, y2: height - 44 })) cursor.setAttribute(name, value);
    svg.append(cursor);
    tip.replaceChildren(...point.lines.map((line) => element("div", line)));
    tip.hidden = false;
    const isLeft = point.x < width / 2;
    tip.style.left = isLeft ? `calc(${(100 * point.x) / width}% + 10px)` : "";
    tip.style.right = isLeft ? "" : `calc(${100 - (100 * point.x) / width}% + 10px)`;
  };
  const hide = () => { tip.hidden = true; cursor.remove(); };

  plot.addEventListener("pointermove", (event) => {
    const box = svg.getBoundingClientRect();
    const x = ((event.clientX - box.left) / box.width) * width;
    show(points.reduce((best, p, i) => (Math.abs(p.x - x) < Math.abs(points[best].x - x) ? i : best), 0));
  });
  plot.addEventListener("pointerleave", hide);
  plot.addEventListener("blur", hide);
  plot.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    event.preventDefault();
    show(Math.min(points.length - 1, Math.max(0, current + step)));
  });
}

const tokenTip = document.getElementById("tokentip");

function tokenSpan(node, index, hottest) {
  const span = element("span", node.pieces[index]);
  span.style.setProperty("--h", hottest ? (node.entropies[index] / hottest).toFixed(3) : 0);
  const probability = node.probabilities[index];
  span.dataset.tip = `H ${node.entropies[index].toFixed(2)} nats` + (probability === undefined ? "" : `, p ${probability}`);
  return span;
}

function panelContent(node, hottest, close) {
  const top = element("div", "", "top"), facts = element("span", `${node.kind} · ${node.facts.join(" · ")}`);
  const button = element("button", "Close");
  button.type = "button";
  button.addEventListener("click", close);
  if (node.pieces) facts.append(" · entropy 0", element("i", "", "ramp"), `${hottest.toFixed(1)} nats`);
  top.append(facts, button);
  const text = element("pre");
  if (node.pieces) text.append(...node.pieces.map((_, index) => tokenSpan(node, index, hottest)));
  else text.textContent = node.text;
  return [top, text];
}

for (const tree of document.querySelectorAll(".tree")) {
  const data = JSON.parse(tree.querySelector(":scope > script").textContent), panel = tree.querySelector(".panel");
  const cards = [...tree.querySelectorAll(".card")];
  const select = (card) => {
    for (const other of cards) other.classList.toggle("selected", other === card);
    panel.hidden = !card;
    if (card) panel.replaceChildren(...panelContent(data.nodes[card.dataset.node], data.max, () => { select(null); card.focus(); }));
  };
  for (const card of cards) card.addEventListener("click", () => select(card));
  if (data.first !== null) select(cards.find((card) => Number(card.dataset.node) === data.first));
  panel.addEventListener("pointermove", (event) => {
    const tip = event.target.dataset.tip;
    tokenTip.hidden = !tip;
    if (!tip) return;
    tokenTip.textContent = tip;
    tokenTip.style.left = `${Math.min(event.clientX + 12, innerWidth - tokenTip.offsetWidth - 8)}px`;
    tokenTip.style.top = `${event.clientY - 38}px`;
  });
  panel.addEventListener("pointerleave", () => { tokenTip.hidden = true; });
}
