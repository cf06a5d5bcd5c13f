// What keys do: one table, for the keyboard and for the help that ? shows.

function keysOf(viewer) {
  const step = (way) => (event) => { viewer.play(false); viewer.go(viewer.frame + way * (event.shiftKey ? 10 : 1)); };
  const click = (id) => () => $(id).click();
  return [
    { shown: "space", does: "play, pause", keys: { " ": () => viewer.play(!viewer.playing) } },
    { shown: "← →", does: "one frame back, on; with shift ten", keys: { ArrowLeft: step(-1), ArrowRight: step(1) } },
    { shown: "Home End", does: "first, last frame", keys: { Home: () => viewer.go(0), End: () => viewer.go(viewer.count - 1) } },
    {
      shown: "1 … 9", does: "person on, off, by place in the list",
      keys: Object.fromEntries([1, 2, 3, 4, 5, 6, 7, 8, 9].map((n) => [n, () => viewer.people.groups[n - 1]?.box.click()])),
    },
    { shown: "C", does: "through the filming camera", keys: { c: click("through") } },
    { shown: "J", does: "joint paths: last second, whole clip, off", keys: { j: () => viewer.nextPaths() } },
    { shown: "?", does: "this help", keys: { "?": () => $("help").showModal() } },
  ];
}

const POINTER = [["drag", "orbit"], ["right or shift drag", "move"], ["wheel, two fingers", "zoom"], ["click the timeline", "go to a frame"]];

function listenToKeys(viewer) {
  const table = keysOf(viewer), acts = Object.assign({}, ...table.map((line) => line.keys));
  for (const [shown, does] of [...table.map((line) => [line.shown, line.does]), ...POINTER]) {
    const line = $("keys").insertRow();
    line.insertCell().textContent = shown;
    line.insertCell().textContent = does;
  }
  $("ask").onclick = acts["?"];
  $("close").onclick = () => $("help").close();
  addEventListener("keydown", (event) => {
    const act = acts[event.key.length === 1 ? event.key.toLowerCase() : event.key];
    if ($("help").open) { if (event.key === "?") $("help").close(); return; }
    if (!act || event.ctrlKey || event.metaKey || event.altKey || event.target.tagName === "SELECT") return;
    event.preventDefault();
    act(event);
  });
}
