// The report as a whole: drawn once, and again where light, dark or the width change.
function choose(h) {
  chosen = h;
  markChosen();
  detail();
  drawMaps();
}

function reopenMaps() {
  slots.left = slots.right = null;
  drawMaps();
}

function draw() {
  header(); circuit(); figureTabs(); grid(); detail(); thumbs(); reopenMaps(); bars(); curve(); entropy(); screened();
  facts($("manifest"), scores.manifest);
}

$("grid").addEventListener("keydown", gridKeys);
$("beside").addEventListener("change", openBeside);
draw();
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { forgetPictures(); draw(); });
let width = innerWidth;
addEventListener("resize", () => { if (innerWidth !== width) { width = innerWidth; grid(); for (const view of Object.values(views)) view?.place(view.canvas.parentElement.clientWidth - 12); } });
