// Takes over what changed in a part of the page, and only that: what has the focus keeps it, what is open stays open.

export function morph(shown, fresh) {
  if (shown.nodeType !== fresh.nodeType || shown.nodeName !== fresh.nodeName) return void shown.replaceWith(document.importNode(fresh, true));
  if (shown.nodeType !== Node.ELEMENT_NODE) {
    if (shown.nodeValue !== fresh.nodeValue) shown.nodeValue = fresh.nodeValue;
    return;
  }
  for (const name of shown.getAttributeNames()) if (!fresh.hasAttribute(name) && !(shown.nodeName === "DETAILS" && name === "open")) shown.removeAttribute(name);
  for (const { name, value } of fresh.attributes) if (shown.getAttribute(name) !== value) shown.setAttribute(name, value);
  const [before, after] = [[...shown.childNodes], [...fresh.childNodes]];
  after.forEach((child, index) => {
    if (index < before.length) morph(before[index], child);
    else shown.append(document.importNode(child, true));
  });
  for (const child of before.slice(after.length)) child.remove();
}
