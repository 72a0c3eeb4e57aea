// Microphone -> 16 bit, mono, 24 kHz, in pieces of 40 ms.

import { Resampler } from "./resampler.js";

const RATE = 24000;
const PIECE = 960;

class Capture extends AudioWorkletProcessor {
  constructor() {
    super();
    this.resampler = new Resampler(sampleRate, RATE);
    this.piece = new Int16Array(PIECE);
    this.filled = 0;
    this.peak = 0;
    this.port.onmessage = () => this.end();
  }

  process(inputs) {
    const channels = inputs[0];
    if (channels.length === 0) return true;
    let mono = channels[0];
    if (channels.length > 1) {
      mono = new Float32Array(mono.length);
      for (const channel of channels) {
        for (let i = 0; i < mono.length; i++) mono[i] += channel[i] / channels.length;
      }
    }
    this.take(this.resampler.push(mono));
    return true;
  }

  take(samples) {
    for (const sample of samples) {
      const value = Math.max(-1, Math.min(1, sample));
      this.piece[this.filled++] = Math.round(value < 0 ? value * 32768 : value * 32767);
      this.peak = Math.max(this.peak, Math.abs(value));
      if (this.filled === PIECE) this.send();
    }
  }

  send() {
    const pcm = this.piece.slice(0, this.filled);
    this.port.postMessage({ pcm: pcm.buffer, peak: this.peak }, [pcm.buffer]);
    this.filled = 0;
    this.peak = 0;
  }

  // The user let go of the button: what is here goes out now, short as it may be.
  end() {
    this.take(this.resampler.flush());
    if (this.filled) this.send();
    this.port.postMessage({ ended: true });
  }
}

registerProcessor("capture", Capture);
