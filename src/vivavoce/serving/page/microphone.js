// The microphone: asked for once, then 24 kHz pieces with the time at which they were said.

const RATE = 24000;

export class Microphone {
  // onPiece({ bytes, peak, samples }), only while `open` is true.
  constructor(context, onPiece) {
    this.context = context;
    this.onPiece = onPiece;
    this.open = false;
    this.stream = null;
  }

  get isThere() {
    return this.stream !== null && this.stream.getAudioTracks().every((track) => track.readyState === "live");
  }

  async start() {
    if (this.isThere) return;
    this.close();
    if (!navigator.mediaDevices || !this.context.audioWorklet) {
      throw new Error("Browsers lend the microphone only to https pages and to localhost. Open this page that way.");
    }
    try {
      this.stream = await navigator.mediaDevices.getUserMedia({
        audio: { channelCount: 1, echoCancellation: true, noiseSuppression: true, autoGainControl: true },
      });
    } catch (error) {
      throw new Error(reason(error));
    }
    this.node = new AudioWorkletNode(this.context, "capture", { numberOfOutputs: 0 });
    this.node.port.onmessage = ({ data }) => this.take(data);
    this.source = this.context.createMediaStreamSource(this.stream);
    this.source.connect(this.node);
  }

  take({ pcm, peak, ended }) {
    if (ended) {
      this.ended?.();
      return;
    }
    if (this.open) this.onPiece({ bytes: new Uint8Array(pcm), peak, samples: pcm.byteLength / 2 });
  }

  // Waits for what was said until now, then takes no more.
  async finish() {
    if (this.node && this.open) {
      await new Promise((done) => {
        this.ended = done;
        setTimeout(done, 250); // a suspended context does not answer
        this.node.port.postMessage("end");
      });
    }
    this.open = false;
  }

  close() {
    this.open = false;
    this.source?.disconnect();
    this.stream?.getTracks().forEach((track) => track.stop());
    this.stream = null;
  }
}

function reason(error) {
  switch (error.name) {
    case "NotAllowedError":
      return "The microphone is blocked. Allow it for this page in the address bar, then try again.";
    case "NotFoundError":
      return "No microphone found. Plug one in, type, or drop a recording here.";
    case "NotReadableError":
      return "The microphone is in use by another program. Close that one, then try again.";
    default:
      return `The microphone does not start: ${error.message}.`;
  }
}

// A recording, in any format that the browser reads, as 16 bit, mono, 24 kHz bytes.
export async function decoded(file) {
  const reader = new OfflineAudioContext(1, 1, RATE);
  let sound;
  try {
    sound = await reader.decodeAudioData(await file.arrayBuffer());
  } catch {
    throw new Error(`${file.name} is not a recording that this browser reads. Try wav, mp3, flac or ogg.`);
  }
  const pcm = new Int16Array(sound.length);
  const channels = Array.from({ length: sound.numberOfChannels }, (_, n) => sound.getChannelData(n));
  for (let i = 0; i < pcm.length; i++) {
    let value = 0;
    for (const channel of channels) value += channel[i] / channels.length;
    value = Math.max(-1, Math.min(1, value));
    pcm[i] = Math.round(value < 0 ? value * 32768 : value * 32767);
  }
  return { bytes: new Uint8Array(pcm.buffer), seconds: sound.duration };
}
