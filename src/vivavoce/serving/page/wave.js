// Waveform of the last seconds, and the level of the microphone as a ring around the button.

const TICK_MS = 40;
const STEP = 5; // pixels for each tick
const still = matchMedia("(prefers-reduced-motion: reduce)");

export class Wave {
  constructor(wave, level) {
    this.wave = wave;
    this.level = level;
    this.rows = []; // [user, model], newest last
    this.user = 0;
    this.model = 0;
    this.shown = 0;
    this.last = 0;
    this.quiet = Infinity; // ticks since there was a sound
    new ResizeObserver(() => this.draw()).observe(wave);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.draw());
  }

  hear(peak) {
    this.user = Math.max(this.user, peak);
    this.wake();
  }

  speak(peak) {
    this.model = Math.max(this.model, peak);
    this.wake();
  }

  wake() {
    this.quiet = 0;
    if (!this.running) {
      this.running = true;
      this.last = performance.now();
      requestAnimationFrame((now) => this.frame(now));
    }
  }

  frame(now) {
    const ticks = Math.min(10, Math.floor((now - this.last) / TICK_MS));
    if (ticks > 0) {
      this.last += ticks * TICK_MS;
      if (now - this.last > 1000) this.last = now; // the tab slept
      for (let n = 0; n < ticks; n++) this.rows.push([this.user, this.model]);
      this.shown = this.user;
      this.user *= 0.4; // pieces and frames do not come in step
      this.model *= 0.4;
      this.rows = this.rows.slice(-400);
      this.quiet += ticks;
      this.draw();
    }
    const width = this.wave.clientWidth / STEP;
    this.running = this.quiet < width; // until the last sound has left
    if (this.running) requestAnimationFrame((next) => this.frame(next));
    else this.rows = [];
  }

  draw() {
    this.drawWave();
    this.drawLevel();
  }

  drawWave() {
    const { canvas, width, height } = sized(this.wave);
    if (!width) return;
    const style = getComputedStyle(this.wave);
    const [user, model, line] = ["--live", "--accent", "--line"].map((name) => style.getPropertyValue(name));
    const middle = height / 2;
    const count = Math.floor(width / STEP);
    const rows = still.matches ? new Array(count).fill(this.rows.at(-1) ?? [0, 0]) : this.rows.slice(-count);
    for (let n = 0; n < count; n++) {
      const [heard, said] = rows[n - (count - rows.length)] ?? [0, 0];
      const peak = Math.max(heard, said);
      const size = Math.max(1, Math.sqrt(peak) * (middle - 2));
      canvas.fillStyle = peak < 0.002 ? line : said > heard ? model : user;
      canvas.beginPath();
      canvas.roundRect(n * STEP + 1, middle - size, STEP - 2, 2 * size, 1.5);
      canvas.fill();
    }
  }

  drawLevel() {
    const { canvas, width } = sized(this.level);
    if (!width) return;
    const value = Math.min(1, Math.sqrt(this.shown));
    this.level.setAttribute("aria-valuenow", String(Math.round(100 * value)));
    if (value < 0.02) return;
    canvas.strokeStyle = getComputedStyle(this.level).getPropertyValue("--live");
    canvas.lineWidth = 4;
    canvas.lineCap = "round";
    canvas.beginPath();
    canvas.arc(width / 2, width / 2, width / 2 - 5, -Math.PI / 2, (2 * value - 0.5) * Math.PI);
    canvas.stroke();
  }
}

// Clears a canvas and makes it as sharp as the screen.
function sized(element) {
  const { clientWidth: width, clientHeight: height } = element;
  const scale = devicePixelRatio || 1;
  if (element.width !== Math.round(width * scale) || element.height !== Math.round(height * scale)) {
    element.width = Math.round(width * scale);
    element.height = Math.round(height * scale);
  }
  const canvas = element.getContext("2d");
  canvas.setTransform(scale, 0, 0, scale, 0, 0);
  canvas.clearRect(0, 0, width, height);
  return { canvas, width, height };
}
