// What is wrong with a page as it is laid out now: a list of complaints, empty if all can be seen, read and hit.
//
// It is an expression, evaluated in the page. It knows nothing of how the page is made.
(() => {
  const complaints = new Set();
  const width = document.documentElement.clientWidth;
  const isTouched = matchMedia("(pointer: coarse)").matches;
  const name = element => {
    const words = element.textContent.trim().replace(/\s+/g, " ").slice(0, 40);
    return `<${element.localName} class="${element.className}"> "${words}"`;
  };
  // What is kept for readers alone is drawn nowhere.
  const isForReadersOnly = element => {
    for (let at = element; at; at = at.parentElement) {
      const style = getComputedStyle(at);
      if (style.clipPath !== "none" && at.offsetWidth <= 1 && at.offsetHeight <= 1) return true;
    }
    return false;
  };
  const parts = color => {
    const numbers = color.match(/[\d.]+/g).map(Number);
    return [numbers[0], numbers[1], numbers[2], numbers[3] ?? 1];
  };
  const over = ([r, g, b, a], below) =>
    [r, g, b].map((part, index) => part * a + below[index] * (1 - a)).concat(1);
  const background = element => {
    const layers = [];
    for (let at = element; at; at = at.parentElement)
      layers.push(parts(getComputedStyle(at).backgroundColor));
    return layers.reduceRight((below, layer) => over(layer, below), [255, 255, 255, 1]);
  };
  const luminance = ([r, g, b]) => {
    const linear = [r, g, b].map(part => {
      const value = part / 255;
      return value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2];
  };
  const contrast = (one, other) => {
    const [low, high] = [luminance(one), luminance(other)].sort((a, b) => a - b);
    return (high + 0.05) / (low + 0.05);
  };

  if (document.documentElement.scrollWidth > width)
    complaints.add(`the document is ${document.documentElement.scrollWidth} px wide, of ${width}`);
  if (document.getAnimations().length > 0) complaints.add("something moves");

  for (const element of document.body.querySelectorAll("*")) {
    if (!element.checkVisibility() || isForReadersOnly(element)) continue;
    const style = getComputedStyle(element);
    const box = element.getBoundingClientRect();
    if (box.width > 0 && (box.left < -0.5 || box.right > width + 0.5))
      complaints.add(`out of the page: ${name(element)}`);
    // A line more than there is room for, or one that is too long.
    const isCut = (style.overflowX !== "visible" && element.scrollWidth > element.clientWidth + 1)
      || (style.overflowY !== "visible" && element.scrollHeight > element.clientHeight + 1);
    if (isCut && element.title !== element.textContent)
      complaints.add(`cut without its whole text in title: ${name(element)}`);
    if (element.matches("a, button, input, select, summary, [tabindex]")) {
      const least = isTouched ? 44 : 24;
      if (box.width < least || box.height < least)
        complaints.add(`${box.width} × ${box.height} px to hit: ${name(element)}`);
    }
  }

  // A text belongs within the place that it stands in.
  const areas = [...document.querySelectorAll("section, td, th, li, header, footer, p")];
  const boxes = new Map(areas.map(area => [area, area.getBoundingClientRect()]));
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {
    const text = texts.currentNode, element = text.parentElement;
    if (!text.data.trim() || !element.checkVisibility() || isForReadersOnly(element)) continue;
    const style = getComputedStyle(element);
    const ratio = contrast(over(parts(style.color), background(element)), background(element));
    if (ratio < 4.5) complaints.add(`contrast ${ratio.toFixed(2)}: ${name(element)}`);
    if (parseFloat(style.fontSize) < 11) complaints.add(`${style.fontSize} small: ${name(element)}`);
    if (element.closest("[title]")?.title === element.textContent) continue;
    const range = document.createRange();
    range.selectNodeContents(text);
    const area = boxes.get(element.closest("section, td, th, li, header, footer, p"));
    for (const line of range.getClientRects()) {
      if (area && (line.left < area.left - 1 || line.right > area.right + 1))
        complaints.add(`text runs out of its place: ${name(element)}`);
      if (line.left < -0.5 || line.right > width + 0.5)
        complaints.add(`text out of the page: ${name(element)}`);
    }
  }
  // No cell lies upon another one.
  for (const row of document.querySelectorAll("tr")) {
    const cells = [...row.cells].filter(cell => cell.checkVisibility() && !isForReadersOnly(cell));
    cells.forEach((cell, index) => {
      const next = cells[index + 1];
      if (!next) return;
      const [one, other] = [cell.getBoundingClientRect(), next.getBoundingClientRect()];
      if (one.right > other.left + 1 && one.bottom > other.top + 1)
        complaints.add(`lies upon the next: ${name(cell)}`);
    });
  }
  return [...complaints];
})()
