"""The folder for browsers: what is in it, and what it does in a real one."""

import base64
import contextlib
import dataclasses
import functools
import hashlib
import http.server
import io
import json
import re
import shutil
import tarfile
import threading
import time

import av
import numpy as np
import pytest

from movinet_jax import convert, data, export, models, timing
from movinet_jax.data.filters import Painter
from movinet_jax.data.video import VideoInfo
from movinet_jax.export import parity, web
from movinet_jax.export.web import packages
from tests.devtools import CAMERA, browse

SIZE, FPS, WINDOW = 32, 10.0, 2
NAMES = ('<b>bold</b>', '<img src=x onerror="document.title=1">', 'a & b', "it's", 'été')


def export_folder(out, **options):
  """A small stream's folder, and what it was made of."""
  spec = models.find_family('movinet').SMALL['stream-2plus1d']
  model = models.create('movinet', len(NAMES), spec=spec)
  source = export.plan(model, timing.draw_weights(model), (SIZE, SIZE), **options)
  clip = data.EvalClip(frames=WINDOW, size=SIZE, short_side=40, fps=FPS)
  about = convert.About(
    **convert.describe_network(model), labels=NAMES, preprocessing=dataclasses.asdict(clip)
  )
  export.write(out, source, about, {'version': 7}, ['tflite'])
  return source


@pytest.fixture(scope='module')
def exported(tmp_path_factory):
  out = tmp_path_factory.mktemp('exported') / 'mine'
  return out, export_folder(out)


def pack(folder, package):
  """A tarball like npm's, and the package with its digest."""
  bytes_ = io.BytesIO()
  with tarfile.open(fileobj=bytes_, mode='w:gz') as archive:
    for member in package.files.values():
      text = b'import {a} from "@litertjs/wasm-utils";\n//# sourceMappingURL=index.js.map'
      entry = tarfile.TarInfo(member)
      entry.size = len(text)
      archive.addfile(entry, io.BytesIO(text))
  (folder / package.tarball).write_bytes(bytes_.getvalue())
  digest = base64.b64encode(hashlib.sha512(bytes_.getvalue()).digest()).decode()
  return dataclasses.replace(package, sha512=digest)


@pytest.fixture
def packed(tmp_path, monkeypatch):
  """A folder with tarballs, in place of LiteRT.js."""
  folder = tmp_path / 'packed'
  folder.mkdir()
  small = tuple(pack(folder, package) for package in packages.PACKAGES)
  monkeypatch.setattr(packages, 'PACKAGES', small)
  return folder


def list_files(folder):
  return {str(one.relative_to(folder)) for one in folder.rglob('*') if one.is_file()}


def test_a_folder_has_all_that_a_browser_asks_for(exported, packed, tmp_path):
  out = tmp_path / 'out'
  web.write_web(exported[0], out, packed)
  web.write_web(exported[0], out, packed)  # again
  page = {'index.html', 'page.js', 'page.css', 'worker.js'}
  names = {name for package in packages.PACKAGES for name in package.files}
  runtime = {'LICENSE', 'README.txt', *names}
  assert list_files(out) == {
    *page,
    *('model.tflite', 'model.json', 'labels.txt'),
    *(f'litertjs/{name}' for name in runtime),
  }
  assert (out / 'litertjs/index.js').read_text() == 'import {a} from "./wasm-utils.js";\n'
  assert 'Apache License' in (out / 'litertjs/LICENSE').read_text()
  assert export.read(out / 'model.tflite').labels == NAMES
  for name in page:
    text = (out / name).read_text()
    # It loads nothing from elsewhere, and only from beside itself.
    assert re.findall(r'https?://(?!localhost)\w', text) == []
    assert not re.search(r'(?:src|href|fetch\()=?[\'"]/', text)


def test_what_cannot_be_written_is_told(exported, packed, tmp_path, monkeypatch):
  out = tmp_path / 'out'
  with pytest.raises(ValueError, match=r'has no model\.tflite: .*--to=tflite'):
    web.write_web(packed, out, packed)
  pair = tmp_path / 'pair'
  shutil.copytree(exported[0], pair)
  about = json.loads((pair / 'model.json').read_text())
  (pair / 'model.json').write_text(json.dumps({**about, 'batch': 2}))
  with pytest.raises(ValueError, match='takes 2 videos at once'):
    web.write_web(pair, out, packed)
  tarball = packed / packages.PACKAGES[0].tarball
  tarball.write_bytes(tarball.read_bytes() + b'.')
  with pytest.raises(ValueError, match=r'is not @litertjs/core@2\.5\.3 as npm published it'):
    web.write_web(exported[0], out, packed)
  tarball.unlink()
  with pytest.raises(ValueError, match=r'npm pack @litertjs/core@2\.5\.3 @litertjs/wasm-utils'):
    web.write_web(exported[0], out, packed)
  assert not out.exists()


@pytest.mark.parametrize('script', ['', 'echo npm error code ENOTFOUND >&2; exit 1', 'touch x'])
def test_npm_that_is_missing_or_fails(script, packed, tmp_path, monkeypatch):
  """The error says what to run where there is a network; nothing is left in the cache."""
  tools, cache = tmp_path / 'tools', tmp_path / 'cache'
  tools.mkdir()
  if script:
    (tools / 'npm').write_text(f'#!/bin/sh\n{script}\n')
    (tools / 'npm').chmod(0o755)
  monkeypatch.setenv('PATH', f'{tools}:/bin' if script else str(tools))
  monkeypatch.setenv('XDG_CACHE_HOME', str(cache))
  with pytest.raises(ValueError, match=r'npm pack @litertjs/core@2\.5\.3') as error:
    web.find_packages()
  assert ('ENOTFOUND' in str(error.value)) == ('ENOTFOUND' in script)
  assert list_files(cache) == set()
  for package in packages.PACKAGES:  # what is in the cache is not asked for again
    (cache / 'movinet-jax/litertjs').mkdir(parents=True, exist_ok=True)
    shutil.copy(packed / package.tarball, cache / 'movinet-jax/litertjs')
  assert 'index.js' in web.find_packages()


def test_a_cache_that_cannot_be_written_to(tmp_path, monkeypatch):
  (tmp_path / 'npm').write_text('#!/bin/sh\n')
  (tmp_path / 'npm').chmod(0o755)
  monkeypatch.setenv('PATH', str(tmp_path))
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'npm'))  # no folder
  with pytest.raises(ValueError, match=r'movinet-jax/litertjs \(not a directory\): .*--litertjs='):
    web.find_packages()


@contextlib.contextmanager
def serve(folder, asked=None):
  """Serves a folder; `asked` gets the Cache-Control of the requests by the name of their file."""

  class Handler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
      if asked is not None:
        asked[self.path.rpartition('/')[2]] = self.headers['Cache-Control']

  handler = functools.partial(Handler, directory=folder)
  with http.server.ThreadingHTTPServer(('127.0.0.1', 0), handler) as server:
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f'http://127.0.0.1:{server.server_port}'
    server.shutdown()


def write_folder(exported, out):
  try:
    web.write_web(exported, out)
  except ValueError as error:
    pytest.skip(f'no LiteRT.js: {error}')


@pytest.fixture(scope='module')
def page(exported, tmp_path_factory):
  """The page of a small stream, served from below a path, with a fake camera of 30 fps."""
  root = tmp_path_factory.mktemp('root')
  write_folder(exported[0], root / 'some/where')
  camera, asked = (CAMERA[0] + '=fps=30', *CAMERA[1:]), {}
  with serve(root, asked) as address, browse(root.parent / 'profile', *camera) as page:
    page.open(f'{address}/some/where/', 'movinet.ready')
    for name in ('model.json', 'labels.txt', 'model.tflite'):  # a new export shows at once
      assert asked[name] == 'max-age=0'
    yield page
    assert page.console == []


class InPage:
  """A stream in the browser, as `Reference.compare` takes one."""

  batch = 1

  def __init__(self, page):
    self.page = page

  def __call__(self, video):
    code = base64.b64encode(video.tobytes()).decode()
    floats = f"new Float32Array(Uint8Array.from(atob('{code}'), c => c.charCodeAt(0)).buffer)"
    return np.array([self.page.run(f'movinet.step({floats}).then(found => [...found.logits])')])

  def read_states(self):
    pairs = 'Object.entries(states).map(([name, each]) => [name, [...each]])'
    found = self.page.run(f'movinet.states().then(({{states}}) => Object.fromEntries({pairs}))')
    return {name: np.array(values, np.float32) for name, values in found.items()}


@pytest.mark.slow  # the first to start the browser
def test_the_page_answers_as_the_network_does(exported, page):
  reference = parity.Reference(exported[1])
  for _ in range(2):  # a video after another is as the first one
    page.run('movinet.reset()')
    found = reference.compare(InPage(page), 'float32')
    assert (found.calls, found.bound) == (8, 1e-5)
    assert 0 < found.logits < 1e-5, found
    assert found.states < 1e-5


@pytest.mark.slow
def test_pictures_become_numbers(page):
  """Of red, green, blue and opacity the first three, from 0 to 1."""
  picture = np.random.default_rng(0).integers(256, size=(SIZE, SIZE, 4), dtype=np.uint8)
  page.run('movinet.reset()')
  wanted = InPage(page)((picture[..., :3] / np.float32(255)).astype(np.float32))
  page.run('movinet.reset()')
  given = f'{{pictures: [new Uint8Array({picture.ravel().tolist()}).buffer]}}'
  found = page.run(f"network.call('see', {given}).then(found => [...found.logits])")
  np.testing.assert_allclose([found], wanted, rtol=1e-5)
  percent = page.run(f"network.call('see', {given}).then(found => [...found.probabilities])")
  assert sum(percent) == pytest.approx(1)


@pytest.mark.slow
def test_several_frames_in_a_call(exported, page, tmp_path):
  source = export_folder(tmp_path / 'mine', frames=3)
  write_folder(tmp_path / 'mine', tmp_path / 'web')
  with serve(tmp_path) as address, browse(tmp_path / 'profile') as other:
    other.open(f'{address}/web/', 'movinet.ready')
    assert 0 < parity.Reference(source).compare(InPage(other), 'float32').logits < 1e-5
    # Four pictures are a call, and one that waits; six are two.
    counts = []
    for pictures in (4, 2):
      for _ in range(pictures):
        other.run('taken.push(new ArrayBuffer(4 * 32 * 32)); see()')
      counts.append(other.run("+find('count').textContent"))
    assert counts == [3, 6]


@pytest.mark.slow
@pytest.mark.parametrize('half', [0, 2])
def test_memory_does_not_grow(half, exported, page):
  steps = f'for (let n = 0; n < 1000; n++) await movinet.step(new Float32Array({3 * SIZE**2}))'
  before, after = page.run(
    f"(async () => {{ await network.call('reset', {{half: {half}}}); "
    f'const before = await movinet.usage(); {steps}; return [before, await movinet.usage()] }})()'
  )
  assert before == after
  states = len(exported[1].program.states)
  assert before['tensors'] == states * (2 if half else 1)


@pytest.mark.slow
def test_a_window_answers_from_the_last_frames_alone(page):
  """What the younger of two streams saw is all that counts once the older one has ended."""
  session, frames = InPage(page), np.random.default_rng(1).random((8, 1, 1, SIZE, SIZE, 3))
  frames = frames.astype(np.float32)
  page.run("network.call('reset', {half: 2})")
  found = np.stack([session(frame) for frame in frames])
  # Streams begin at calls 0, 2, 4 and 6. Each answers from when it is two calls old, the first at
  # once.
  for call, begin in enumerate([0, 0, 0, 0, 2, 2, 4, 4]):
    page.run('movinet.reset()')
    wanted = [session(frame) for frame in frames[begin : call + 1]][-1]
    np.testing.assert_allclose(found[call], wanted, rtol=1e-6)


@pytest.mark.slow
def test_a_gap_delays_no_answer(page):
  """After a hidden tab the next picture is seen, and then one a tick as before."""
  times = [number / 30 for number in [*range(30), *range(420, 450)]]
  taken = page.run(f"""(() => {{
    const own = new Ticks({{fps: 5}});
    return {times}.filter(mediaTime => own.takes({{mediaTime}}));
  }})()""")
  np.testing.assert_allclose(taken, [0, 0.2, 0.4, 0.6, 0.8, 14, 14.2, 14.4, 14.6, 14.8])


@pytest.mark.slow
def test_of_two_sources_the_later_one_stays(page, tmp_path):
  """Two cameras at once, and a camera and a file: what is not shown is off."""
  write_video(tmp_path / 'a.mp4')
  (tmp_path / 'b.mp4').write_text('no video')
  page.keep_streams()
  page.run("""{
    window.live = () => streams.filter(stream => stream.active).length;
    window.until = holds => new Promise(go => {
      const look = () => holds() ? go(true) : setTimeout(look, 20);
      look();
    });
  }""")
  assert page.run("find('start').click(); find('start').disabled") is True
  page.run("find('start').onclick()")  # as if the button were not
  page.run('until(() => streams.length === 2 && video.srcObject)')
  assert page.run('[live(), video.srcObject === streams[1]]') == [1, True]
  page.run("find('start').click()")
  assert page.run('[live(), video.srcObject]') == [0, None]
  page.run("find('start').click()")
  page.choose('#file', tmp_path / 'a.mp4')
  page.run("until(() => streams.length === 3 && find('status').textContent === 'a.mp4')")
  assert page.run("[live(), find('start').disabled, find('crop').hidden]") == [0, False, False]
  page.choose('#file', tmp_path / 'b.mp4')
  page.run("until(() => find('status').className === 'wrong')")
  assert page.run("find('status').textContent") == 'This browser cannot play b.mp4.'
  assert page.run("[find('crop').hidden, video.controls]") == [True, False]


@pytest.mark.slow
def test_a_camera(page):
  """Answers change with the picture, which stays fluid; names are no markup."""
  page.run("find('start').click()")
  page.run("""{
    window.gaps = [];
    let before;
    const note = now => {
      if (before) gaps.push(now - before);
      before = now;
      video.requestVideoFrameCallback(note);
    };
    video.requestVideoFrameCallback(note);
  }""")
  answers = set()
  for _ in range(12):
    time.sleep(0.25)
    answers.add(page.run("find('answers').textContent"))
  assert len(answers) > 3
  gaps_ms = page.run('gaps')
  assert len(gaps_ms) > 45
  assert np.median(gaps_ms) < 40
  assert page.run("find('memory').value") == 'window'
  assert page.run("+find('count').textContent") >= 15
  assert 8 < page.run("+find('rate').textContent") < 12
  rows = page.run("[...document.querySelectorAll('#answers span')].map(row => row.textContent)")
  assert sorted(rows) == sorted(NAMES)
  assert page.run("document.querySelectorAll('#answers img, #answers li b b').length") == 0
  page.run("find('start').click()")
  assert page.run('video.srcObject') is None


def write_video(path, frames=40, rate=20):
  """A picture wider than it is high, of many colours, that changes; returns its last frame."""
  rows, columns = np.mgrid[:48, :80]
  with av.open(str(path), 'w') as file:
    stream = file.add_stream('h264', rate=rate, options={'crf': '1'})
    stream.width, stream.height, stream.pix_fmt = 80, 48, 'yuv420p'
    for number in range(frames):
      picture = np.stack([3 * columns, 5 * rows, 6 * number + 0 * rows], -1).astype(np.uint8)
      file.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format='rgb24')))
    file.mux(stream.encode())
  with av.open(str(path)) as file:
    return list(file.decode(video=0))[-1]


@pytest.mark.slow
def test_a_file(page, tmp_path):
  """The network sees the ticks of an evaluation, and its crop."""
  path = tmp_path / 'a & b.mp4'
  last = write_video(path)
  page.run("""{
    window.moments = [];
    const takes = ticks.takes.bind(ticks);
    ticks.takes = picture => {
      const is = takes(picture);
      if (is) moments.push(picture.mediaTime);
      return is;
    };
  }""")
  page.choose('#file', path)
  page.run("new Promise(go => video.addEventListener('ended', () => setTimeout(go, 200)))")
  seen_secs = np.array(page.run('moments'))
  assert len(seen_secs) >= 15
  # The first picture that the browser tells of may be the second one.
  np.testing.assert_allclose(
    np.diff(seen_secs) * FPS, np.round(np.diff(seen_secs) * FPS), atol=1e-3
  )
  assert page.run("+find('count').textContent") == len(seen_secs)
  assert page.run("[find('memory').value, find('status').textContent]") == ['exact', 'a & b.mp4']
  # What comes at the last tick waits for the network, and is answered then.
  page.run("""(async () => {
    await reset();
    for (let n = 0; n < 2; n++) { taken.push(crop()); see(); }
    while (busy) await new Promise(go => setTimeout(go, 10));
  })()""")
  assert page.run("+find('count').textContent") == 2
  found = page.run('[...new Uint8Array(crop())]')
  found = np.array(found, float).reshape(SIZE, SIZE, 4)[..., :3]
  clip = data.EvalClip(frames=WINDOW, size=SIZE, short_side=40, fps=FPS)
  info = VideoInfo(width=80, height=48, frames=40, fps=20.0, duration_secs=2.0, codec='h264')
  wanted = Painter(clip.frame(info), (80, 48), pytest.fail).paint(last)
  assert np.abs(found - wanted).mean() < 3


@pytest.mark.slow
def test_a_network_that_is_too_slow_skips(page):
  """Its call takes three ticks: it never has two calls to do, and the picture does not wait."""
  page.run("""{
    window.most = 0;
    let now = 0;
    const call = network.call.bind(network);
    network.call = async (kind, ...more) => {
      if (kind !== 'see') return call(kind, ...more);
      most = Math.max(most, ++now);
      await new Promise(go => setTimeout(go, 280));
      const found = await call(kind, ...more);
      now -= 1;
      return found;
    };
  }
  find('start').click()""")
  time.sleep(2.5)
  seen, skipped, most = page.run("[+find('count').textContent, +find('skipped').textContent, most]")
  page.run("find('start').click()")
  assert most == 1
  assert 4 <= seen <= 9
  assert seen < skipped <= 3 * seen + 3
