// Canvases that are as sharp as the screen, and colours of the theme.

/** A canvas's drawing context with a unit of one CSS pixel, cleared; null while it is not shown. */
export function surface(canvas) {
  const { width, height } = canvas.getBoundingClientRect();
  if (!width || !height) return null;
  const scale = devicePixelRatio || 1;
  const [w, h] = [Math.round(width * scale), Math.round(height * scale)];
  if (canvas.width !== w || canvas.height !== h) Object.assign(canvas, { width: w, height: h });
  const context = canvas.getContext("2d");
  context.setTransform(scale, 0, 0, scale, 0, 0);
  context.clearRect(0, 0, width, height);
  return { context, width, height };
}

let cached = { theme: null };

export function theme() {
  const name = document.documentElement.dataset.theme;
  if (cached.theme !== name) {
    const style = getComputedStyle(document.documentElement);
    const value = (token) => style.getPropertyValue(token).trim();
    cached = {
      theme: name, ink: value("--ink"), soft: value("--ink-soft"), faint: value("--ink-faint"), line: value("--line"),
      sunken: value("--sunken"), surface: value("--surface"), accent: value("--accent"), font: value("--font"),
    };
  }
  return cached;
}

// Neighbours in this list are easy to tell apart, for most kinds of colour blindness by lightness too.
const COLOURS = [
  [177, 72, 32], [32, 78, 56], [246, 52, 60], [340, 60, 58], [205, 66, 52], [84, 46, 44],
  [308, 38, 50], [15, 62, 50], [152, 52, 44], [48, 66, 48], [222, 40, 42], [280, 46, 66],
];

/** Colour number `index` of the palette, lighter on dark ground. */
export function tint(index, strength = 1) {
  const [hue, saturation, lightness] = COLOURS[index % COLOURS.length];
  const lift = theme().theme === "dark" ? 12 : 0;
  return `hsl(${hue} ${saturation}% ${lightness + lift}% / ${strength})`;
}
