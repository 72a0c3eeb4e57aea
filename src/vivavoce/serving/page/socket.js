// The Realtime WebSocket: events in, events out.

export class Socket {
  // on: { event(event), state("connecting" | "open" | "closed", reason) }
  constructor(on) {
    this.on = on;
    this.ws = null;
  }

  get isOpen() {
    return this.ws !== null && this.ws.readyState === WebSocket.OPEN;
  }

  open(model, key) {
    this.close();
    const http = new URL(`v1/realtime?model=${encodeURIComponent(model)}`, document.baseURI);
    const address = new URL(http);
    address.protocol = http.protocol === "https:" ? "wss:" : "ws:";
    const protocols = ["realtime"];
    if (key) protocols.push(`openai-insecure-api-key.${key}`); // the only place where a browser can put it
    this.on.state("connecting");
    let ws;
    try {
      ws = new WebSocket(address, protocols);
    } catch {
      this.on.state("closed", "This API key has characters that a browser cannot send to a socket.");
      return;
    }
    this.ws = ws;
    let refusal = "";
    let opened = false;
    ws.onopen = () => {
      opened = true;
    };
    ws.onmessage = ({ data }) => {
      if (this.ws !== ws) return;
      const event = JSON.parse(data);
      if (event.type === "error") refusal = event.error?.message ?? "";
      if (event.type === "session.created") this.on.state("open");
      this.on.event(event);
    };
    ws.onclose = async ({ code, reason }) => {
      if (this.ws !== ws) return;
      const why = opened ? refusal || reason : await whyRefused(http, key);
      if (this.ws !== ws) return;
      this.ws = null;
      this.on.state("closed", why || said(code));
    };
  }

  send(type, fields = {}) {
    if (this.isOpen) this.ws.send(JSON.stringify({ type, ...fields }));
  }

  close() {
    const ws = this.ws;
    this.ws = null;
    ws?.close(1000);
  }
}

// A page is not told why a socket was refused, but it can ask the same address.
async function whyRefused(address, key) {
  try {
    const answer = await fetch(address, { headers: key ? { Authorization: `Bearer ${key}` } : {} });
    const { error } = await answer.json();
    return answer.status === 426 ? "" : error.message;
  } catch {
    return ""; // not there at all
  }
}

function said(code) {
  if (code === 1013) return "The server is full. Try again in a moment.";
  if (code === 1012 || code === 1001) return "The server is going down.";
  return code === 1006 ? "The connection to the server was lost or refused." : `The server hung up (${code}).`;
}

export function toBase64(bytes) {
  let text = "";
  for (let i = 0; i < bytes.length; i += 0x8000) {
    text += String.fromCharCode(...bytes.subarray(i, i + 0x8000));
  }
  return btoa(text);
}

export function fromBase64(text) {
  return Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
}
