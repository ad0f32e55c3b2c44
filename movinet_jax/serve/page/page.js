// Shows what `/about` says that there is: a source that all viewers share ("watch"), or the camera
// of this browser ("film"). Everything that comes is shown as text, never as markup.

const byId = id => document.getElementById(id);
const sleep = ms => new Promise(done => setTimeout(done, Math.max(0, ms)));
const post = (path, body) => fetch(path, {method: 'POST', body});
const [picture, image, video] = ['picture', 'image', 'video'].map(byId);
const ENDED = 'The stream has ended.';

function say(kind, text) {
  const status = byId('status');
  // Said once: a screen reader reads aloud what changes here.
  if (status.textContent !== text) status.textContent = text;
  status.dataset.kind = kind;
}

function formatSecs(secs) {
  const tenths = Math.floor(secs * 10 + 1e-6);
  const [hours, minutes] = [Math.floor(tenths / 36000), Math.floor(tenths / 600) % 60];
  const rest = (tenths % 600 / 10).toFixed(1).padStart(4, '0');
  return hours ? `${hours}:${String(minutes).padStart(2, '0')}:${rest}` : `${minutes}:${rest}`;
}

function showTop(top) {
  const list = byId('top');
  while (list.children.length > top.length) list.lastChild.remove();
  while (list.children.length < top.length) {
    const item = document.createElement('li');
    for (const tag of ['span', 'b', 'i']) item.append(document.createElement(tag));
    list.append(item);
  }
  top.forEach(({label, probability}, place) => {
    const [name, percent, bar] = list.children[place].children;
    name.textContent = name.title = label;
    percent.textContent = `${(100 * probability).toFixed(1)}%`;
    bar.style.setProperty('--share', probability);
  });
}

function showAnswer(answer) {
  if (!answer.top) return;
  showTop(answer.top);
  byId('latency').textContent = `${answer.latency_ms.toFixed(1)} ms`;
  byId('fps').textContent = answer.fps ? answer.fps.toFixed(1) : '–';
  byId('time').textContent = formatSecs(answer.secs);
  byId('frame').textContent = (answer.frame + 1).toLocaleString('en');
  byId('reset').disabled = false;
}

function showSince(secs) {
  byId('since').hidden = secs == null;
  if (secs != null) byId('since').textContent = `Since ${formatSecs(secs)}`;
}

// The central square that an evaluation cuts out, in shares of a picture.
function findSquare(about, width, height) {
  const side = Math.min(width, height) * about.size / about.short_side;
  return {left: (width - side) / 2, top: (height - side) / 2, side};
}

function showShape(about, width, height) {
  picture.style.setProperty('--shape', width / height);
  const {left, top, side} = findSquare(about, width, height);
  Object.assign(byId('crop').style, {
    left: `${100 * left / width}%`, top: `${100 * top / height}%`,
    width: `${100 * side / width}%`, height: `${100 * side / height}%`,
  });
  byId('crop').hidden = false;
}

function watch(about) {
  const sayOf = {
    waiting: () => 'Waiting for the first frames…',
    playing: () => about.live ? 'Live' : 'Playing',
    lost: news => news.note,
    ended: news => news.note || 'The source has ended. The last answer stays.',
    failed: news => `The stream has ended: ${news.note}`,
    stopped: () => ENDED,
  };
  let events = null, run = null, isOpen = false, isOver = false;

  function take(news) {
    if (run && news.run !== run) return location.reload();  // another stream at this address
    run = news.run;
    isOver = ['failed', 'stopped'].includes(news.status);
    say(news.status, sayOf[news.status](news));
    showAnswer(news);
    showSince(news.since_secs);
    byId('again').hidden = !news.again;
    if (isOver || news.status === 'ended') byId('reset').disabled = true;
  }

  // A browser keeps six connections to an address: hidden tabs leave theirs to others.
  function listen() {
    events?.close();
    events = null;
    isOpen = false;
    if (document.hidden) return;
    events = new EventSource('events');
    events.onopen = () => { isOpen = true; };
    events.onmessage = event => take(JSON.parse(event.data));
    events.onerror = () => {
      isOpen = false;
      if (!isOver) say('failed', 'Nothing answers any more: the stream may have ended.');
      byId('reset').disabled = true;
      byId('again').hidden = true;
      if (events?.readyState === EventSource.CLOSED) setTimeout(listen, 2000);
    };
  }

  // The next picture is asked for when this one is drawn, so a slow browser gets fewer of them.
  async function draw() {
    for (let after = -1; ; ) {
      try {
        if (!isOpen) { await sleep(100); continue; }
        const reply = await fetch(`picture?after=${after}`);
        if (reply.status === 204) continue;
        if (!reply.ok) throw new Error(reply.status);
        const url = URL.createObjectURL(await reply.blob()), before = image.src;
        after = reply.headers.get('X-Picture');
        image.src = url;
        await image.decode().catch(() => {});
        if (before) URL.revokeObjectURL(before);
        image.hidden = false;
        showShape(about, image.naturalWidth, image.naturalHeight);
      } catch {
        after = -1;
        await sleep(1000);
      }
    }
  }

  byId('reset').onclick = () => post('reset');
  byId('again').onclick = () => post('again');
  document.addEventListener('visibilitychange', listen);
  listen();
  draw();
}

function film(about) {
  const {size, chunk} = about, pixels = size * size, viewer = crypto.randomUUID();
  const pen = new OffscreenCanvas(size, size).getContext('2d', {willReadFrequently: true});
  pen.imageSmoothingQuality = 'high';
  let camera = null, starts = 0;

  function stop(kind, text) {
    starts += 1;
    camera?.getTracks().forEach(track => track.stop());
    camera = video.srcObject = null;
    byId('camera').textContent = 'Start camera';
    byId('camera').disabled = false;
    byId('reset').disabled = true;
    say(kind, text);
  }

  // RGB of the square that the network sees.
  function take(body, place) {
    const {left, top, side} = findSquare(about, video.videoWidth, video.videoHeight);
    pen.drawImage(video, left, top, side, side, 0, 0, size, size);
    const {data} = pen.getImageData(0, 0, size, size);
    for (let from = 0, to = 3 * pixels * place; from < 4 * pixels; from += 4) {
      body[to++] = data[from];
      body[to++] = data[from + 1];
      body[to++] = data[from + 2];
    }
  }

  // A frame at each tick of the network's rate; ticks that come while it works are left out.
  async function send(own) {
    const body = new Uint8Array(3 * pixels * chunk), step = 1000 / about.fps;
    let due = performance.now(), held = 0;
    while (camera === own) {
      await sleep(due - performance.now());
      due = Math.max(due + step, performance.now());
      if (camera !== own || document.hidden || !video.videoWidth) continue;
      showShape(about, video.videoWidth, video.videoHeight);
      take(body, held);
      held = (held + 1) % chunk;
      if (held) continue;
      const reply = await post(`frames?viewer=${viewer}`, body);
      if (reply.status === 410) return stop('failed', ENDED);
      if (!reply.ok) return stop('failed', await reply.text());
      const answer = await reply.json();
      if (camera !== own) return;
      say('playing', 'Live');
      showAnswer(answer);
      if (answer.reset) showSince(answer.secs);
    }
  }

  async function start() {
    say('waiting', 'Waiting for the camera…');
    byId('camera').disabled = true;  // else a second click starts a second camera
    const start = ++starts;
    try {
      const own = await navigator.mediaDevices.getUserMedia({video: true});
      if (start !== starts) return own.getTracks().forEach(track => track.stop());
      camera = own;
      byId('camera').disabled = false;
      own.getVideoTracks()[0].onended = () => stop('lost', 'The camera is gone.');
      video.srcObject = own;
      video.hidden = false;
      byId('camera').textContent = 'Stop camera';
      await video.play();
      await post(`reset?viewer=${viewer}`);  // of what it saw before it was off
      await send(own);
    } catch (error) {
      if (start !== starts) return;
      const refused = error.name === 'NotAllowedError', none = error.name === 'NotFoundError';
      if (refused) stop('failed', 'The browser does not let this page use the camera: allow it.');
      else if (none) stop('failed', 'There is no camera.');
      else if (error instanceof TypeError) stop('failed', ENDED);  // nothing answers
      else stop('failed', `The camera fails: ${error.message}`);
    }
  }

  byId('camera').hidden = false;
  byId('camera').onclick = () => camera ? stop('ended', 'The camera is off.') : start();
  byId('reset').onclick = () => post(`reset?viewer=${viewer}`);
  byId('time').previousElementSibling.textContent = 'Time of the camera';
  say('ended', 'What your camera sees goes to movinet at this address, and nowhere else.');
}

async function begin() {
  const about = await (await fetch('about')).json();
  document.title = `${about.network} · movinet stream`;
  byId('network').textContent = about.network;
  const fps = Number(about.fps.toPrecision(3));
  const rate = `${fps} frames a second, ${about.size} × ${about.size}`;
  byId('source').textContent = about.mode === 'film' ? rate : `${about.source} · ${rate}`;
  ({watch, film})[about.mode](about);
}

begin().catch(error => say('failed', `This page cannot begin: ${error.message}`));
