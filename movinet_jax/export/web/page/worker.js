// The network, in a thread of its own: the page's thread stays free for the picture.
//
// A classic worker, because LiteRT.js loads its WASM with importScripts. Each message has an `id`
// and the name of a handler below; the answer has the same `id`, and `error` where it failed.
'use strict';

const FILE = 'model.tflite';
const quiet = /^(VERBOSE|INFO|WARNING):/; // such as: there is no NPU

let litert, runtime, model, about, shape;
let streams = []; // states by name of one stream or of two: the older, which answers, is first
let half = 0; // calls of half a window, after which a stream begins anew; 0: never
let calls = 0;
let tensors = 0; // counts those that are not deleted

const handlers = {
  /** Loads the runtime and the network. `given` is the parsed model.json. */
  async load({given}) {
    about = given;
    shape = about.files[FILE].inputs.image.shape;
    hideGpu();
    self.Module = {
      locateFile: name => new URL(`litertjs/${name}`, self.location).href,
      printErr: text => quiet.test(text) ? console.debug(text) : console.error(text),
    };
    litert = await import('./litertjs/index.js');
    runtime = await litert.loadLiteRt('litertjs/');
    model = await litert.loadAndCompile(await read(FILE), {accelerator: 'wasm'});
    begin(0);
    // The first call allocates: nobody should wait for it later.
    await advance(new Float32Array(count(shape)));
    begin(0);
  },

  /** Begins a video. With `half`, two streams begin anew by turns, one every so many calls. */
  async reset({half: wanted = 0}) {
    begin(wanted);
  },

  /** Takes the next frames: RGBA bytes of each. */
  async see({pictures}) {
    const [low, high] = about.image.range;
    const image = new Float32Array(count(shape)), scale = (high - low) / 255;
    let to = 0;
    for (const picture of pictures) {
      const bytes = new Uint8Array(picture);
      for (let from = 0; from < bytes.length; from += 4) {
        image[to++] = low + scale * bytes[from];
        image[to++] = low + scale * bytes[from + 1];
        image[to++] = low + scale * bytes[from + 2];
      }
    }
    return advance(image);
  },

  /** Takes the next frames: RGB floats, in the range of model.json. */
  async step({image}) {
    return advance(image);
  },

  /** The states of the stream that answers. */
  async states() {
    const found = {};
    for (const [name, tensor] of Object.entries(streams[0])) found[name] = tensor.toTypedArray();
    return {states: found};
  },

  /** How many tensors live, and the bytes of the heap. */
  async usage() {
    return {tensors, heapBytes: runtime.liteRtWasm.HEAPU8.length};
  },
};

/** Runs the network on the next frames: probabilities, logits, and milliseconds of the call. */
async function advance(image) {
  const began = performance.now();
  if (half && calls === half) {
    const [older, younger] = streams;
    free(older);
    streams = [younger, makeZeros()];
    calls = 0;
  }
  calls += 1;
  const input = make(image, shape);
  const logits = await run(input, 0);
  if (half) await run(input, 1);
  discard(input);
  const probabilities = normalize(logits);
  return {logits, probabilities, ms: performance.now() - began};
}

/** One call: every output but the logits goes to the input of its name. */
async function run(input, index) {
  const before = streams[index];
  const found = await model.run({image: input, ...before});
  tensors += Object.keys(found).length;
  const after = {};
  for (const [name, next] of Object.entries(about.files[FILE].states)) after[name] = found[next];
  free(before);
  streams[index] = after;
  const logits = found.logits.toTypedArray();
  discard(found.logits);
  return logits;
}

function begin(wanted) {
  streams.forEach(free);
  half = wanted;
  calls = 0;
  streams = half ? [makeZeros(), makeZeros()] : [makeZeros()];
}

function makeZeros() {
  const found = {};
  for (const name of Object.keys(about.files[FILE].states)) {
    const {shape} = about.files[FILE].inputs[name];
    found[name] = make(new Float32Array(count(shape)), shape);
  }
  return found;
}

function normalize(logits) {
  if (about.probabilities === 'sigmoid') return logits.map(each => 1 / (1 + Math.exp(-each)));
  const most = logits.reduce((one, other) => Math.max(one, other));
  const powers = logits.map(each => Math.exp(each - most));
  const sum = powers.reduce((one, other) => one + other);
  return powers.map(each => each / sum);
}

// LiteRT.js frees nothing by itself.
function make(values, dimensions) {
  tensors += 1;
  return new litert.Tensor(values, dimensions);
}

function discard(tensor) {
  tensors -= 1;
  tensor.delete();
}

function free(stream) {
  Object.values(stream).forEach(discard);
}

function count(dimensions) {
  return dimensions.reduce((one, other) => one * other, 1);
}

async function read(name) {
  const answer = await fetch(name, {cache: 'no-cache'}); // see fetchText in page.js
  if (!answer.ok) throw new Error(`${name}: the server says ${answer.status}`);
  return new Uint8Array(await answer.arrayBuffer());
}

/** LiteRT.js takes a GPU device at its start, and warns where there is none: it is not needed. */
function hideGpu() {
  const nothing = {limits: {}, features: new Set(), requestDevice: async () => null};
  Object.defineProperty(self.navigator, 'gpu', {value: {requestAdapter: async () => nothing}});
}

let last = Promise.resolve();
self.onmessage = ({data: {id, kind, ...more}}) => {
  last = last.then(async () => {
    try {
      self.postMessage({id, ...await handlers[kind](more)});
    } catch (error) {
      self.postMessage({id, error: `${error?.message ?? error}`});
    }
  });
};
