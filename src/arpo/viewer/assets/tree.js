"use strict";

const element = (tag, text = "", className = "") => Object.assign(document.createElement(tag), { textContent: text, className });

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

// Shrinks a tree to the width there is, down to a size that can be read; a wider one scrolls in its own frame.
function fitTree(canvas) {
  const nodes = canvas.querySelector(".nodes"), style = getComputedStyle(canvas);
  const room = canvas.clientWidth - parseFloat(style.paddingLeft) - parseFloat(style.paddingRight);
  if (room > 0) nodes.style.zoom = Math.min(1, Math.max(0.7, room / Number(nodes.style.getPropertyValue("--width"))));
}

function bindTree(tree) {
  const canvas = tree.querySelector(".canvas");
  fitTree(canvas);
  // again when the window changes or a hidden tree is shown; in a frame of its own, as fitting changes the height that is observed
  new ResizeObserver(() => requestAnimationFrame(() => fitTree(canvas))).observe(canvas);
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
