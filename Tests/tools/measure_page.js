// Returns a list of the page's layout problems. The list is empty if everything is visible, readable and large enough
// to tap.
//
// The file is one expression, which a test evaluates in the page. It does not depend on the page's source.
(() => {
  const problems = new Set();
  const width = document.documentElement.clientWidth;
  const isTouchScreen = matchMedia("(pointer: coarse)").matches;
  const describe = element => {
    const text = element.textContent.trim().replace(/\s+/g, " ").slice(0, 40);
    return `<${element.localName} class="${element.className}"> "${text}"`;
  };
  // Text that only screen readers use is not drawn.
  const isForScreenReadersOnly = element => {
    for (let at = element; at; at = at.parentElement) {
      const style = getComputedStyle(at);
      if (style.clipPath !== "none" && at.offsetWidth <= 1 && at.offsetHeight <= 1) return true;
    }
    return false;
  };
  const components = color => {
    const numbers = color.match(/[\d.]+/g).map(Number);
    return [numbers[0], numbers[1], numbers[2], numbers[3] ?? 1];
  };
  const over = ([r, g, b, a], below) =>
    [r, g, b].map((part, index) => part * a + below[index] * (1 - a)).concat(1);
  const background = element => {
    const layers = [];
    for (let at = element; at; at = at.parentElement)
      layers.push(components(getComputedStyle(at).backgroundColor));
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
    problems.add(`the document is ${document.documentElement.scrollWidth} px wide, the window ${width} px`);
  if (document.getAnimations().length > 0) problems.add("there is an animation");

  for (const element of document.body.querySelectorAll("*")) {
    if (!element.checkVisibility() || isForScreenReadersOnly(element)) continue;
    const style = getComputedStyle(element);
    const box = element.getBoundingClientRect();
    if (box.width > 0 && (box.left < -0.5 || box.right > width + 0.5))
      problems.add(`outside the page: ${describe(element)}`);
    // The text is too wide or too high for its element.
    const isTruncated = (style.overflowX !== "visible" && element.scrollWidth > element.clientWidth + 1)
      || (style.overflowY !== "visible" && element.scrollHeight > element.clientHeight + 1);
    if (isTruncated && element.title !== element.textContent)
      problems.add(`truncated without the whole text in title: ${describe(element)}`);
    if (element.matches("a, button, input, select, summary, [tabindex]")) {
      const least = isTouchScreen ? 44 : 24;
      if (box.width < least || box.height < least)
        problems.add(`tap target of only ${box.width} × ${box.height} px: ${describe(element)}`);
    }
  }

  // A text must not extend beyond the area that contains it.
  const areas = [...document.querySelectorAll("section, td, th, li, header, footer, p")];
  const boxes = new Map(areas.map(area => [area, area.getBoundingClientRect()]));
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {
    const text = texts.currentNode, element = text.parentElement;
    if (!text.data.trim() || !element.checkVisibility() || isForScreenReadersOnly(element)) continue;
    const style = getComputedStyle(element);
    const ratio = contrast(over(components(style.color), background(element)), background(element));
    if (ratio < 4.5) problems.add(`contrast ${ratio.toFixed(2)}: ${describe(element)}`);
    if (parseFloat(style.fontSize) < 11) problems.add(`${style.fontSize} is too small: ${describe(element)}`);
    if (element.closest("[title]")?.title === element.textContent) continue;
    const range = document.createRange();
    range.selectNodeContents(text);
    const area = boxes.get(element.closest("section, td, th, li, header, footer, p"));
    for (const line of range.getClientRects()) {
      if (area && (line.left < area.left - 1 || line.right > area.right + 1))
        problems.add(`text overflows its area: ${describe(element)}`);
      if (line.left < -0.5 || line.right > width + 0.5)
        problems.add(`text outside the page: ${describe(element)}`);
    }
  }
  // A cell must not overlap the next cell.
  for (const row of document.querySelectorAll("tr")) {
    const cells = [...row.cells].filter(cell => cell.checkVisibility() && !isForScreenReadersOnly(cell));
    cells.forEach((cell, index) => {
      const next = cells[index + 1];
      if (!next) return;
      const [one, other] = [cell.getBoundingClientRect(), next.getBoundingClientRect()];
      if (one.right > other.left + 1 && one.bottom > other.top + 1)
        problems.add(`overlaps the next cell: ${describe(cell)}`);
    });
  }
  return [...problems];
})()
