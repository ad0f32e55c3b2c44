// Runs the network of this folder on a camera or a video file. Nothing leaves the browser.
//
// `window.movinet` runs the same network for programs: see the end.
'use strict';

const TOP = 5; // classes shown
const WINDOW = 30; // the latency and the rate are those of so many latest calls
const SLACK_SECS = 1e-7; // two pictures this close in time are equally near to a tick

const find = id => document.getElementById(id);
const video = find('video');

/** The worker, as functions that return promises. */
class Network {
  constructor() {
    this.waiting = new Map();
    this.last = 0;
    this.worker = new Worker('worker.js');
    this.worker.onmessage = ({data: {id, error, ...found}}) => {
      const {resolve, reject} = this.waiting.get(id);
      this.waiting.delete(id);
      if (error) reject(new Error(error));
      else resolve(found);
    };
    this.worker.onerror = event => {
      event.preventDefault();
      const error = new Error(event.message || 'worker.js could not be loaded');
      for (const {reject} of this.waiting.values()) reject(error);
      this.waiting.clear();
    };
  }

  call(kind, more = {}, given = []) {
    const id = ++this.last;
    return new Promise((resolve, reject) => {
      this.waiting.set(id, {resolve, reject});
      this.worker.postMessage({id, kind, ...more}, given);
    });
  }
}

/**
 * Which pictures the network sees, as in an evaluation.
 *
 * With `fps` these are the ticks 0, 1 / fps, 2 / fps, …: a tick shows the picture that is nearest
 * in time, the earlier of two that are equally near. With `stride`, every stride-th picture. After
 * a gap, such as that of a hidden tab, the next picture is seen at once, and none is seen again.
 */
class Ticks {
  constructor({fps, stride}) {
    Object.assign(this, {fps, stride});
    this.reset();
  }

  reset() {
    this.first = this.last = null;
    this.due = 0;
  }

  /** Whether to take a picture that is shown now. */
  takes({mediaTime, presentedFrames}) {
    const now = this.fps ? mediaTime : presentedFrames;
    this.first ??= now;
    // A gap says nothing about when the next picture comes, so it counts as one tick.
    const step = this.last === null || !this.fps ? 0 : Math.min(now - this.last, 1 / this.fps);
    this.last = now;
    // The picture is the nearest one up to here, if the next one comes as soon as this one did.
    const until = now - this.first + step / 2 + SLACK_SECS;
    const tick = Math.floor(this.fps ? until * this.fps : until / this.stride);
    if (tick < this.due) return false;
    this.due = tick + 1;
    return true;
  }
}

/** Times of the latest calls. */
class Recent {
  constructor() {
    this.times = [];
  }

  add(time) {
    this.times.push(time);
    if (this.times.length > WINDOW) this.times.shift();
  }

  get median() {
    return [...this.times].sort((one, other) => one - other)[this.times.length >> 1];
  }

  /** How many a second, of times in milliseconds. */
  get rate() {
    const lasted = this.times.at(-1) - this.times[0];
    return lasted > 0 ? 1e3 * (this.times.length - 1) / lasted : NaN;
  }
}

let network, about, labels, ticks, canvas, clip;
let busy = false; // the network runs
let videos = 0; // counts videos: an answer about an earlier one comes too late
let sources = 0; // counts cameras and files: one that opens after a newer one is closed again
let taken = []; // pictures for the next call
let seen = 0, skipped = 0;
let asking = false; // the browser or its user decides about a camera
let address = null; // the address of an opened file
let latencies, answered, shown;

async function main() {
  say('Loading…');
  if (location.protocol === 'file:') {
    throw new Error('A browser runs no network in a page that was opened as a file. Run “python3 '
      + '-m http.server” in this folder, then open http://localhost:8000.');
  }
  if (typeof WebAssembly === 'undefined') {
    throw new Error('WebAssembly is switched off in this browser, and the network needs it. On an '
      + 'iPhone, Lockdown Mode does that.');
  }
  if (!video.requestVideoFrameCallback) {
    throw new Error('This browser does not say when a picture is shown. Use one of 2025 or newer.');
  }
  about = JSON.parse(await fetchText('model.json'));
  labels = (await fetchText('labels.txt')).split('\n');
  clip = about.preprocessing;
  describe();
  const {bytes} = about.files['model.tflite'];
  say(`Loading the network (${(bytes / 1e6).toFixed(1)} MB) and its runtime (9.4 MB)…`);
  network = new Network();
  await network.call('load', {given: about}).catch(error => {
    throw new Error(`The network could not be started. ${explain(error)}`);
  });
  ticks = new Ticks(clip);
  canvas = document.createElement('canvas');
  canvas.width = canvas.height = clip.size;
  await reset();
  for (const id of ['start', 'open', 'reset']) find(id).disabled = false;
  say('Ready. All that the camera sees stays in this browser.');
  video.requestVideoFrameCallback(look);
}

async function fetchText(name) {
  // A new export may lie at the same address: the browser asks whether its copy is still valid.
  const answer = await fetch(name, {cache: 'no-cache'});
  if (!answer.ok) throw new Error(`${name} cannot be read: the server says ${answer.status}.`);
  return answer.text();
}

function explain(error) {
  if (/unsafe-eval|Content Security Policy/i.test(error.message)) {
    return "The server's Content-Security-Policy refuses WebAssembly: it needs 'wasm-unsafe-eval'.";
  }
  if (/CompileError|LinkError|Aborted/.test(error.message)) {
    return `Its WebAssembly cannot be read: copy the whole folder, litertjs too. ${error.message}`;
  }
  return error.message;
}

/** What is known before the network is loaded. */
function describe() {
  const every = clip.stride > 1 ? `one frame of ${clip.stride}` : 'every frame';
  const pace = clip.fps ? `${clip.fps} frames a second` : every;
  const classes = about.classes === 1 ? '1 class' : `${about.classes} classes`;
  const calls = about.frames > 1 ? `, ${about.frames} in a call` : '';
  const {weights} = about.files['model.tflite'];
  document.title = find('name').textContent = about.network;
  find('facts').textContent = `${classes} · ${clip.size} × ${clip.size} pixels · `
    + `${pace}${calls} · ${weights} · LiteRT.js on the CPU`;
  find('answers').style.setProperty('--rows', Math.min(TOP, about.classes));
  find('memories').hidden = !hasStates();
  const least = halfWindow() * about.frames, most = 2 * least;
  const [from, to] = [least, most].map(frames => +(frames / clip.fps).toFixed(1));
  const secs = clip.fps ? `, ${from}–${to} s` : '';
  find('memory').options[1].textContent = `the last ${least} to ${most} frames${secs}`;
}

function hasStates() {
  return Object.keys(about.files['model.tflite'].states).length > 0;
}

/** Calls of half a window: a window is two training clips long. */
function halfWindow() {
  return Math.max(1, Math.round(clip.frames / about.frames));
}

/** At each picture of the video. */
function look(_, picture) {
  video.requestVideoFrameCallback(look);
  shown.add(picture.expectedDisplayTime);
  if (!ticks.takes(picture)) return;
  if (taken.length === about.frames) {
    // The network was busy when these came, so an answer would be late: they are dropped.
    skipped += taken.length;
    taken = [];
  }
  taken.push(crop());
  see();
}

/** The network's part of the picture, as RGBA bytes. */
function crop() {
  const {videoWidth: width, videoHeight: height} = video, {size} = clip;
  const side = Math.min(width, height) * size / clip.short_side;
  const context = canvas.getContext('2d', {willReadFrequently: true});
  context.imageSmoothingQuality = 'high';
  context.drawImage(video, (width - side) / 2, (height - side) / 2, side, side, 0, 0, size, size);
  return context.getImageData(0, 0, size, size).data.buffer;
}

/** Runs the network, if there are frames for a call. */
async function see() {
  if (busy || taken.length < about.frames) return;
  const pictures = taken, asked = videos;
  taken = [];
  busy = true;
  try {
    const {probabilities, ms} = await network.call('see', {pictures}, pictures);
    if (asked === videos) show(probabilities, ms);
  } catch (error) {
    stop();
    say(`The network failed. ${error.message} Load the page again.`, true);
  } finally {
    busy = false;
  }
  // No later picture takes the place of a file's last one, so it is answered late.
  if (video.ended) see();
}

function show(probabilities, ms) {
  seen += about.frames;
  latencies.add(ms);
  answered.add(performance.now());
  const order = [...probabilities.keys()].sort((one, other) =>
    probabilities[other] - probabilities[one]);
  const list = find('answers');
  order.slice(0, TOP).forEach((index, rank) => {
    const row = list.children[rank] ?? list.appendChild(makeRow());
    const [name, percent, bar] = row.children;
    name.textContent = name.title = labels[index] || `class ${index}`;
    percent.textContent = `${(100 * probabilities[index]).toFixed(1)} %`;
    bar.firstChild.style.width = `${100 * probabilities[index]}%`;
  });
  find('latency').textContent = `${latencies.median.toFixed(1)} ms`;
  writeRate(find('rate'), about.frames * answered.rate);
  writeRate(find('shown'), shown.rate);
  find('count').textContent = seen;
  find('skipped').textContent = skipped;
}

function makeRow() {
  const row = document.createElement('li');
  for (const kind of ['span', 'b', 'div']) row.append(document.createElement(kind));
  row.lastChild.append(document.createElement('i'));
  return row;
}

function writeRate(element, number) {
  element.textContent = Number.isFinite(number) ? number.toFixed(1) : '–';
}

/** Forgets all frames so far: the next one begins a video. */
async function reset() {
  videos += 1;
  [taken, seen, skipped] = [[], 0, 0];
  [latencies, answered, shown] = [new Recent(), new Recent(), new Recent()];
  ticks.reset();
  find('answers').replaceChildren();
  for (const id of ['latency', 'rate', 'shown']) find(id).textContent = '–';
  for (const id of ['count', 'skipped']) find(id).textContent = 0;
  const windowed = hasStates() && find('memory').value === 'window';
  await network.call('reset', {half: windowed ? halfWindow() : 0});
}

/** Ends what is shown now, and what is being opened. */
function stop() {
  sources += 1;
  video.pause();
  for (const track of video.srcObject?.getTracks() ?? []) track.stop();
  if (address) URL.revokeObjectURL(address);
  address = null;
  video.srcObject = null;
  video.removeAttribute('src');
  video.controls = false;
  find('crop').hidden = true;
  find('empty').hidden = false;
  find('start').textContent = 'Start camera';
  find('start').disabled = asking = false;
}

/**
 * Opens a camera or a file in place of what is shown now.
 *
 * `begin` gets a function that tells whether this source is still the latest one. What goes wrong
 * with an earlier one is not said.
 */
async function openSource(begin) {
  stop();
  const own = sources, isLatest = () => own === sources;
  try {
    await begin(isLatest);
  } catch (error) {
    if (!isLatest()) return;
    stop();
    tell(error);
  }
}

async function startCamera(isLatest) {
  if (!navigator.mediaDevices) {
    throw new Error('A browser gives a camera only to pages of localhost or https://. Open the '
      + 'page at http://localhost, or serve it with TLS. A video file works here too.');
  }
  const which = find('camera').value;
  const wanted = ['user', 'environment'].includes(which)
    ? {facingMode: which} : {deviceId: {exact: which}};
  say('Waiting for the camera…');
  find('start').disabled = asking = true;
  const size = {width: {ideal: 640}, height: {ideal: 480}};
  const stream = await navigator.mediaDevices.getUserMedia({video: {...size, ...wanted}});
  if (!isLatest()) {
    for (const track of stream.getTracks()) track.stop();
    return;
  }
  find('start').disabled = asking = false;
  stream.getVideoTracks()[0].onended = () => {
    stop();
    say('The camera is gone.', true);
  };
  video.srcObject = stream;
  find('start').textContent = 'Stop camera';
  // A camera has no end: an answer about all that it ever saw would hardly change after minutes.
  await begin('window');
  await listCameras();
  if (isLatest()) say('The camera runs. All that it sees stays in this browser.');
}

const refusals = {
  NotAllowedError: 'The browser was told not to give its camera to this page: allow it beside the '
    + 'address, then start again.',
  NotFoundError: 'There is no camera. Open a video file instead.',
  OverconstrainedError: 'This camera is not there any more: choose another one.',
  NotReadableError: 'The camera is used by another program.',
};

/** Lists cameras by name. A browser tells the names only once it may use one of them. */
async function listCameras() {
  const select = find('camera'), devices = await navigator.mediaDevices.enumerateDevices();
  const cameras = devices.filter(({kind, deviceId}) => kind === 'videoinput' && deviceId);
  while (select.options.length > 2) select.options[2].remove();
  if (cameras.length < 2) return;
  for (const {label, deviceId} of cameras) select.append(new Option(label, deviceId));
}

async function openFile(file, isLatest) {
  address = URL.createObjectURL(file);
  video.src = address;
  video.controls = true;
  await begin('exact', `This browser cannot play ${file.name}.`);
  if (isLatest()) say(file.name);
}

/** Begins a video with the memory that suits it. `refusal` is said if it cannot be played. */
async function begin(memory, refusal) {
  find('memory').value = memory;
  await reset();
  await video.play().catch(error => {
    throw refusal ? new Error(refusal) : error;
  });
}

function fit() {
  const {videoWidth: width, videoHeight: height} = video;
  if (!width) return; // it was closed
  const side = Math.min(width, height) * clip.size / clip.short_side;
  find('stage').style.setProperty('--ratio', width / height);
  find('crop').style.width = `${100 * side / width}%`;
  find('crop').style.height = `${100 * side / height}%`;
  find('crop').hidden = false;
  find('empty').hidden = true;
}

function say(text, wrong = false) {
  find('status').textContent = text;
  find('status').className = wrong ? 'wrong' : '';
}

function tell(error) {
  say(refusals[error.name] ?? error.message, true);
}

find('start').onclick = () => {
  if (!video.srcObject) return openSource(startCamera);
  stop();
  say('The camera is off.');
};
find('camera').onchange = () => {
  if (video.srcObject || asking) openSource(startCamera);
};
find('open').onclick = () => find('file').click();
find('file').onchange = ({target}) => {
  const [file] = target.files;
  if (file) openSource(isLatest => openFile(file, isLatest));
  target.value = ''; // the same file may be opened again
};
find('reset').onclick = () => reset().catch(tell);
find('memory').onchange = () => reset().catch(tell);
video.onloadedmetadata = video.onresize = fit;
video.onended = () => see();
video.onseeking = () => reset().catch(tell);
document.ondragover = event => event.preventDefault();
document.ondrop = event => {
  event.preventDefault();
  const [file] = event.dataTransfer.files;
  // What is dropped while the network loads is opened afterwards.
  const begin = () => openSource(isLatest => openFile(file, isLatest));
  if (file) window.movinet.ready.then(begin, () => {});
};

/**
 * The network for programs. Wait for `ready`, and do not run a video at the same time.
 *
 * `step` takes the frames of a call, RGB of all rows one after another as a Float32Array in the
 * range of model.json, and resolves to {logits, probabilities, ms}. `states` resolves to {states},
 * `usage` to {tensors, heapBytes}: how many tensors live, and the size of WebAssembly's memory.
 */
window.movinet = {
  ready: main(),
  reset,
  step: image => network.call('step', {image}),
  states: () => network.call('states'),
  usage: () => network.call('usage'),
};
window.movinet.ready.catch(tell);
