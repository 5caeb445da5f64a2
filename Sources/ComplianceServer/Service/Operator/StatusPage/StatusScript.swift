extension StatusPage {
  /// The script that updates the page in place. It does not replace unchanged elements, so focus, selection and scroll
  /// position are kept.
  static let script: HTML = """

    "use strict";
    const interval = 3000, timeout = 10000;
    const notice = document.getElementById("notice");
    let timer = 0, isUpdating = false;

    // Elements with an ID are matched by the ID, other elements by their position.
    function patch(old, fresh) {
      if (old.nodeType === Node.TEXT_NODE) {
        if (old.data !== fresh.data) old.data = fresh.data;
        return;
      }
      for (const { name } of [...old.attributes])
        if (!fresh.hasAttribute(name)) old.removeAttribute(name);
      for (const { name, value } of fresh.attributes)
        if (old.getAttribute(name) !== value) old.setAttribute(name, value);
      const wanted = new Map([...fresh.children].map(child => [child.id, child.nodeName]));
      const known = new Map();
      for (const child of [...old.children]) {
        if (!child.id) continue;
        if (wanted.get(child.id) === child.nodeName) known.set(child.id, child);
        else child.remove();
      }
      let place = old.firstChild;
      const dropPlace = () => {
        const next = place.nextSibling;
        place.remove();
        place = next;
      };
      for (const child of fresh.childNodes) {
        let match = known.get(child.id);
        if (match) {
          while (place && place !== match && !place.id) dropPlace();
        } else if (!child.id && place && !place.id && place.nodeName === child.nodeName) {
          match = place;
        }
        if (!match) {
          old.insertBefore(document.importNode(child, true), place);
          continue;
        }
        if (match === place) place = place.nextSibling;
        else old.insertBefore(match, place);
        patch(match, child);
      }
      while (place) dropPlace();
    }

    function show(page) {
      const selection = getSelection();
      const { anchorNode, anchorOffset, focusNode, focusOffset } = selection;
      for (const id of ["about", "main"])
        patch(document.getElementById(id), page.getElementById(id));
      // A change of a text moves a selection in the text to the beginning. Restore the selection.
      if (!anchorNode?.isConnected || !focusNode?.isConnected) return;
      if (selection.anchorOffset === anchorOffset && selection.focusOffset === focusOffset) return;
      const within = (node, offset) =>
        Math.min(offset, node.data?.length ?? node.childNodes.length);
      selection.setBaseAndExtent(
        anchorNode, within(anchorNode, anchorOffset), focusNode, within(focusNode, focusOffset));
    }

    // Does not write the same text again, because a screen reader would read it again.
    function showNotice(what) {
      const time = document.querySelector("#about time").textContent;
      const words = `${what} This page shows the state of ${time}. It will update when it can.`;
      if (notice.textContent !== words) notice.textContent = words;
    }

    async function update() {
      clearTimeout(timer);
      if (document.hidden || isUpdating) return;
      isUpdating = true;
      try {
        // The page's URL may contain a user name and a password. They are left out, because fetch refuses such URLs.
        const response = await fetch(location.origin + location.pathname, {
          cache: "no-store", headers: { accept: "text/html" },
          signal: AbortSignal.timeout(timeout),
        });
        const page = new DOMParser().parseFromString(await response.text(), "text/html");
        if (response.ok && page.getElementById("main")) show(page);
        else
          showNotice(
            page.getElementById("notice")?.textContent || `The server returned the status ${response.status}.`);
      } catch {
        showNotice("The server does not respond.");
      }
      isUpdating = false;
      scheduleUpdate();
    }

    function scheduleUpdate() {
      if (!document.hidden) timer = setTimeout(update, interval);
    }

    // A hidden page is not updated. When it becomes visible again, it is updated at once.
    document.addEventListener("visibilitychange", update);
    scheduleUpdate();

    """
}
