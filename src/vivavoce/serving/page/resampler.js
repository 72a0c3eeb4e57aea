// Changes the sample rate of a stream. What comes out does not depend on how the stream was cut.

const ZEROS = 16; // zero crossings of the sinc on each side
const PHASES = 512; // fractional positions in the table, linear between

export class Resampler {
  // from, to: Hz.
  constructor(from, to) {
    this.step = from / to;
    const cutoff = 0.94 * Math.min(1, to / from); // of the lower Nyquist frequency
    this.reach = Math.ceil(ZEROS / cutoff);
    this.table = filter(this.reach, cutoff);
    this.reset();
  }

  reset() {
    this.kept = new Float32Array(this.reach); // silence in front
    this.position = this.reach; // of the next output, in samples of `kept`
  }

  // Takes float samples, gives those that are final.
  push(input) {
    const all = new Float32Array(this.kept.length + input.length);
    all.set(this.kept);
    all.set(input, this.kept.length);
    const last = all.length - this.reach - 1;
    const count = Math.max(0, Math.floor((last - this.position) / this.step) + 1);
    const output = new Float32Array(count);
    for (let n = 0; n < count; n++) output[n] = this.at(all, this.position + n * this.step);
    this.position += count * this.step;
    const drop = Math.max(0, Math.floor(this.position) - this.reach);
    this.kept = all.slice(drop);
    this.position -= drop;
    return output;
  }

  // Gives the rest, as if silence followed, and begins anew.
  flush() {
    const rest = this.push(new Float32Array(this.reach));
    this.reset();
    return rest;
  }

  at(samples, position) {
    const whole = Math.floor(position);
    const phase = (position - whole) * PHASES;
    const row = Math.floor(phase);
    const part = phase - row;
    const width = 2 * this.reach;
    const first = whole - this.reach + 1;
    let sum = 0;
    for (let k = 0, i = row * width; k < width; k++, i++) {
      sum += samples[first + k] * (this.table[i] + part * (this.table[i + width] - this.table[i]));
    }
    return sum;
  }
}

// Windowed sinc, one row of 2 * reach taps for each fractional position.
function filter(reach, cutoff) {
  const width = 2 * reach;
  const table = new Float32Array((PHASES + 1) * width);
  for (let phase = 0; phase <= PHASES; phase++) {
    let sum = 0;
    for (let k = 0; k < width; k++) {
      const x = k - reach + 1 - phase / PHASES;
      const angle = Math.PI * cutoff * x;
      const sinc = angle === 0 ? 1 : Math.sin(angle) / angle;
      const edge = Math.min(1, Math.abs(x) / reach);
      const value = sinc * (0.5 + 0.5 * Math.cos(Math.PI * edge));
      table[phase * width + k] = value;
      sum += value;
    }
    for (let k = 0; k < width; k++) table[phase * width + k] /= sum; // silence and constants stay
  }
  return table;
}
