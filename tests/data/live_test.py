"""Live frames: those that a clip of the same rate has, as they come, from wherever they come."""

import itertools
import os
import socket
import threading
import time
from fractions import Fraction

import av
import numpy as np
import pytest

from movinet_jax.data import address, live, reader
from movinet_jax.data.address import Address, Camera, File, Pipe, SourceLost, parse_source
from movinet_jax.data.clip import EvalClip
from movinet_jax.data.live import Painting, open_feed, read_frames
from movinet_jax.data.ticks import Shown, hold_frames
from movinet_jax.data.video import DecodeError
from tests.data import servers

NTSC = Fraction(30000, 1001)
SOURCE_FPS = [5, 7, Fraction(25, 2), 24, 25, NTSC, 30, 60]
NETWORK_FPS = [2, 5, 7.5, 10, 12.5, 15, 24, 25, float(NTSC), 30]
TICK = Fraction(1, 90_000)


def write(path, times_secs, **options):
  """Writes frames of noise, no two of them alike, that are shown at these times."""
  noise = np.random.default_rng(0).integers(0, 256, (len(times_secs), 16, 16, 3), np.uint8)
  with av.open(str(path), 'w') as output:
    stream = output.add_stream('libx264', options={'bf': '0', 'g': '8', **options})
    stream.width = stream.height = 16
    stream.pix_fmt, stream.codec_context.time_base = 'yuv420p', TICK
    gaps = [*np.diff(times_secs), (times_secs[-1] - times_secs[0]) / (len(times_secs) - 1)]
    for picture, secs, gap in zip(noise, times_secs, gaps, strict=True):
      picture = av.VideoFrame.from_ndarray(picture, format='rgb24')
      picture.pts, picture.time_base = round(secs / TICK), TICK
      for packet in stream.encode(picture):
        packet.duration = round(gap / TICK)
        output.mux(packet)
    output.mux(stream.encode(None))
  return str(path)


def check_alike(path, fps):
  """A stream at `fps` has the frames of one clip as long as the video."""
  secs, live = zip(*read_frames(path, fps=fps), strict=True)
  clip = EvalClip(frames=len(live), fps=fps, size=16)
  evaluated, _ = reader.read_clip(path, clip.plan)
  np.testing.assert_array_equal(np.stack(live), evaluated, err_msg=f'{path} at {fps} fps')
  np.testing.assert_allclose(secs, np.arange(len(live)) / fps, atol=1e-9)
  return len(live)


@pytest.mark.parametrize('source_fps', SOURCE_FPS, ids=lambda fps: f'{float(fps):.4g}')
@pytest.mark.parametrize('suffix', ['mp4', 'mkv'])
def test_a_stream_shows_the_frames_of_a_clip(suffix, source_fps, tmp_path):
  path = write(tmp_path / f'a.{suffix}', [i / source_fps for i in range(33)])
  for fps in NETWORK_FPS:
    frames = check_alike(path, fps)
    assert frames == pytest.approx(33 * fps / float(source_fps), abs=1.02), fps


@pytest.mark.parametrize('seed', range(4))
def test_a_stream_of_an_uneven_source_shows_the_frames_of_a_clip(seed, tmp_path):
  gaps = np.random.default_rng(seed).choice([0.01, 0.04, 0.1, 0.7], 24)
  path = write(tmp_path / 'a.mkv', np.cumsum(gaps) - gaps[0])
  for fps in NETWORK_FPS:
    check_alike(path, fps)


def test_a_stream_without_a_rate_shows_every_frame_once(tmp_path):
  times = [0, 0.04, 0.08, 0.5, 1.5, 1.6, 1.8]
  path = write(tmp_path / 'a.mp4', times)
  secs, frames = zip(*read_frames(path), strict=True)
  np.testing.assert_allclose(secs, times, atol=1e-4)
  assert len({frame.tobytes() for frame in frames}) == 7


def test_a_clip_longer_than_its_video_begins_anew_where_the_last_frame_is_over(tmp_path):
  path = write(tmp_path / 'a.mp4', [i / 5 for i in range(10)])
  once = np.stack([frame for _, frame in read_frames(path, fps=10)])
  clip, _ = reader.read_clip(path, EvalClip(frames=50, fps=10, size=16).plan)
  np.testing.assert_array_equal(clip, np.concatenate([once, once, once[:10]]))


class _Track:
  fps = 10.0


class _Frame:
  duration = time_base = None


def make_frames(times_secs, breaks=()):
  """Frames that are their own number, without pixels."""
  for number, secs in enumerate(times_secs):
    frame = _Frame()
    frame.number = number
    yield Shown(secs, frame, _Track(), part=sum(number >= place for place in breaks))


def test_no_frame_is_held_until_a_lost_source_is_back():
  found = list(hold_frames(make_frames([0, 0.1, 0.2, 5.03, 5.13], {3}), 10))
  assert [(round(10 * one.secs), one.frame.number) for one in found] == [
    *[(0, 0), (1, 1), (2, 2)],
    *[(51, 4), (52, 4)],
  ]
  assert [one.part for one in found] == [0, 0, 0, 1, 1]


def test_a_tick_is_shown_as_soon_as_it_is_known():
  came = []

  def watch(frames):
    for frame in frames:
      came.append(frame.frame.number)
      yield frame

  held = hold_frames(watch(make_frames([0, 0.1, 0.2, 0.3])), 10)
  for number in range(4):
    assert next(held).frame.number == number
    assert came[-1] == number  # and no frame after it


def test_what_came_before_damage_is_shown_first():
  def fail_late():
    yield from make_frames([0, 0.2, 0.4])
    raise DecodeError('a.mp4', 'is damaged')

  held = hold_frames(fail_late(), 10)
  assert [next(held).frame.number for _ in range(6)] == [0, 0, 1, 1, 2, 2]
  with pytest.raises(DecodeError):
    next(held)


@pytest.fixture
def impatient(monkeypatch):
  """Waits of a second and less in place of ten."""
  for name, secs in (('OPEN_SECS', 1.0), ('READ_SECS', 1.0), ('PLAYLIST_SECS', 1.0)):
    monkeypatch.setattr(address, name, secs)
  monkeypatch.setattr(live, '_RETRY_SECS', (0.1, 0.2))


def watch(text, most=1000, found=None, said=None, **options):
  """What a source shows: (seconds, number, part) of each frame, and what was said.

  The lists `found` and `said` have what came before an error.
  """
  found, said = ([] if one is None else one for one in (found, said))
  painting = Painting()
  with open_feed(parse_source(text), say=said.append, **options) as feed:
    for shown in itertools.islice(feed.frames(), most):
      (number,) = servers.read_numbers([painting.paint(shown)])
      found.append((shown.secs, number, shown.part))
  return found, said


FRAMES = servers.make_frames(40)
FILES = {'a.mp4': ('mp4', {'movflags': 'faststart'}), 'a.ts': ('mpegts', {})}


@pytest.mark.parametrize('name', FILES)
def test_a_file_behind_an_address_ends_as_a_file(name):
  form, options = FILES[name]
  content = servers.encode(20, form, **options)

  def answer(handler):
    servers.send_head(handler, 'video/any', len(content))
    handler.wfile.write(content)

  with servers.serve_http(answer) as url:
    found, said = watch(f'{url}/{name}')
  assert [number for _, number, _ in found] == list(range(20))
  np.testing.assert_allclose([secs for secs, _, _ in found], np.arange(20) / 10, atol=1e-3)
  assert not said


def test_a_file_whose_connection_is_lost_goes_on_where_it_was(impatient):
  content, asked = servers.encode(20, 'mpegts'), []

  def answer(handler):
    asked.append(handler.path)
    servers.send_head(handler, 'video/mp2t', len(content))
    handler.wfile.write(content[: len(content) * 6 // 10] if len(asked) == 1 else content)

  with servers.serve_http(answer) as url:
    found, said = watch(f'{url}/a.ts')
  assert [number for _, number, _ in found] == list(range(20))
  assert {part for _, _, part in found} == {0}  # nothing is missing, so nothing is over
  assert len(said) == 2
  assert 'opens it again in 0.1 s' in said[0]
  assert 'is back after' in said[1]


def test_a_file_that_is_cut_short_is_a_clear_error(impatient):
  content = servers.encode(20, 'mp4', movflags='faststart')
  content = content[: len(content) * 6 // 10]

  def answer(handler):
    servers.send_head(handler, 'video/mp4', len(content))
    handler.wfile.write(content)

  with servers.serve_http(answer) as url, pytest.raises(DecodeError, match=f'^{url}/a.mp4: '):
    watch(f'{url}/a.mp4')


def test_pictures_of_a_camera_are_shown_when_they_come():
  """They have no time stamps, and FFmpeg would take them for 25 a second."""

  def answer(handler):
    servers.send_jpegs(handler, FRAMES, fps=10)

  with servers.serve_http(answer) as url:
    found, _ = watch(f'{url}/camera', most=16)
  secs = np.array([secs for secs, _, _ in found])
  assert [number for _, number, _ in found] == list(range(16))
  assert np.median(np.diff(secs[-8:])) == pytest.approx(0.1, abs=0.03)


def serve_live(shows):
  """Answers each request with the next show: a TS of some numbers in its time, or a status."""

  def answer(handler):
    show = next(shows)
    if isinstance(show, int):
      return handler.send_error(show)
    servers.send_head(handler, 'video/mp2t')
    content = servers.encode(len(show), first=show[0])
    step = len(content) // len(show) + 1
    for start in range(0, len(content), step):
      handler.wfile.write(content[start : start + step])
      time.sleep(0.1)
    return None

  return servers.serve_http(answer)


def test_a_lost_stream_goes_on_with_the_clock(impatient):
  shows = itertools.chain([range(6), 503, range(6, 12)], itertools.repeat(404))
  began = time.monotonic()
  found, said = [], []
  with serve_live(shows) as url, pytest.raises(SourceLost, match=r'404.* within 1 s') as raised:
    watch(f'{url}/live', found=found, said=said, reconnect_secs=1)
  lasted = time.monotonic() - began
  assert [number for _, number, _ in found] == list(range(12))
  assert [part for _, _, part in found] == [0] * 6 + [1] * 6
  gaps = np.diff([secs for secs, _, _ in found])
  np.testing.assert_allclose(np.delete(gaps, 5), 0.1, atol=1e-6)
  assert 0.2 < gaps[5] < lasted
  assert [line.split(': ')[1].split(' (')[0] for line in said[:3]] == [
    *['cannot be read', 'cannot be opened'],
    f'is back after {said[2].split()[-2]} s',
  ]
  assert url in str(raised.value)


def test_a_stream_that_stands_still_is_lost(impatient):
  def answer(handler):
    servers.send_head(handler, 'video/mp2t')
    handler.wfile.write(servers.encode(6))
    time.sleep(20)

  with servers.serve_http(answer) as url, pytest.raises(SourceLost, match='nothing comes any more'):
    watch(f'{url}/live', reconnect_secs=0)


@pytest.mark.parametrize(
  ('status', 'kind', 'words'),
  [(404, DecodeError, '404 Not Found'), (401, DecodeError, '401'), (503, SourceLost, '5XX')],
)
def test_a_refusal_is_told_without_the_password(status, kind, words):
  with serve_live(itertools.repeat(status)) as url:
    secret = url.replace('//', '//me:tr0ub4dor@') + '/a?token=s3cret&user=me'
    with pytest.raises(kind, match=words) as raised:
      watch(secret)
  told = f'{raised.value} {raised.value!r} {raised.value.path} {parse_source(secret)!r}'
  assert type(raised.value) is kind
  assert 'me:***@' in told
  assert 'tr0ub4dor' not in told
  assert 's3cret' not in told


def find_free_port(kind=socket.SOCK_STREAM):
  with socket.socket(socket.AF_INET, kind) as one:
    one.bind(('127.0.0.1', 0))
    return one.getsockname()[1]


@pytest.mark.parametrize('scheme', ['http', 'https', 'rtsp', 'rtsps', 'rtmp', 'rtmps'])
def test_a_port_where_nobody_listens_is_a_clear_error(scheme):
  with pytest.raises(SourceLost, match='Connection refused'):
    watch(f'{scheme}://127.0.0.1:{find_free_port()}/live')


def test_what_cannot_be_there_is_a_clear_error(impatient):
  with pytest.raises(DecodeError, match='no such host') as raised:
    watch('http://nowhere.invalid/live')
  assert not isinstance(raised.value, SourceLost)
  with pytest.raises(SourceLost, match='does not answer: timed out'):
    watch(f'udp://127.0.0.1:{find_free_port(socket.SOCK_DGRAM)}')
  with socket.create_server(('127.0.0.1', 0)) as silent:
    for scheme in ('rtsp', 'http'):
      with pytest.raises(SourceLost, match='does not answer: timed out'):
        watch(f'{scheme}://127.0.0.1:{silent.getsockname()[1]}/live')
  with pytest.raises(ValueError, match=r"'ftp://me:\*\*\*@x/a' begins with ftp://; .*rtsp://"):
    parse_source('ftp://me:pw@x/a')


@pytest.mark.parametrize('secret', ['', 'me:tr0ub4dor'])
def test_rtsp(secret, impatient):
  shows = iter([FRAMES[:8], FRAMES[8:14]])
  with servers.serve_rtsp(shows, user=secret) as url:
    found, said = watch(url, most=14)
  assert [number for _, number, _ in found] == list(range(14))
  assert [part for _, _, part in found] == [0] * 8 + [1] * 6
  gaps = np.diff([secs for secs, _, _ in found])
  np.testing.assert_allclose(np.delete(gaps, 7), 0.1, atol=1e-3)
  assert 'the stream has ended; opens it again' in said[0]
  assert 'tr0ub4dor' not in ''.join(said)


def test_udp(impatient):
  port = find_free_port(socket.SOCK_DGRAM)
  content = servers.encode(40)

  def send():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as out:
      for start in range(0, len(content), 1316):
        out.sendto(content[start : start + 1316], ('127.0.0.1', port))
        time.sleep(0.004)

  threading.Timer(0.3, send).start()
  found, _ = watch(f'udp://127.0.0.1:{port}', most=12)
  numbers = [number for _, number, _ in found]
  assert numbers == list(range(numbers[0], numbers[0] + 12))


PLAYLISTS = {
  'hls': '#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\n{}\n#EXT-X-ENDLIST\n',
  'concat': "ffconcat version 1.0\nfile '{}'\n",
}


@pytest.mark.parametrize('kind', PLAYLISTS)
@pytest.mark.parametrize('prefix', ['', 'file:', 'file://', 'concat:', 'subfile,,start,0,end,0,,:'])
def test_a_playlist_from_far_away_reads_no_file_of_this_machine(kind, prefix, tmp_path, impatient):
  path = tmp_path / 'a.ts'
  path.write_bytes(servers.encode(5))
  playlist = PLAYLISTS[kind].format(f'{prefix}{path}').encode()

  def answer(handler):
    if handler.path != '/a.m3u8':
      return handler.send_error(404)
    servers.send_head(handler, 'application/vnd.apple.mpegurl', len(playlist))
    handler.wfile.write(playlist)
    return None

  with servers.serve_http(answer) as url, pytest.raises(DecodeError):
    watch(f'{url}/a.m3u8', reconnect_secs=0)


def test_a_playlist_of_its_own_server_is_played(impatient):
  files = {f'/{i}.ts': servers.encode(5, first=5 * i) for i in range(3)}
  lines = ['#EXTM3U', '#EXT-X-TARGETDURATION:1', '#EXT-X-VERSION:3']
  for name in files:
    lines += ['#EXT-X-DISCONTINUITY', '#EXTINF:0.5,', name[1:]]
  files['/a.m3u8'] = '\n'.join([*lines, '#EXT-X-ENDLIST', '']).encode()

  def answer(handler):
    servers.send_head(handler, 'video/mp2t', len(files[handler.path]))
    handler.wfile.write(files[handler.path])

  with servers.serve_http(answer) as url:
    found, _ = watch(f'{url}/a.m3u8')
  assert [number for _, number, _ in found] == list(range(15))


@pytest.mark.parametrize('form', ['mpegts', 'matroska'])
def test_a_named_pipe(form, tmp_path):
  path = tmp_path / 'pipe'
  os.mkfifo(path)
  content = servers.encode(12, form)
  threading.Thread(target=path.write_bytes, args=(content,), daemon=True).start()
  found, _ = watch(str(path))
  assert [(number, part) for _, number, part in found] == [(i, 0) for i in range(12)]


def test_a_stop_ends_the_wait_for_a_source(tmp_path):
  path = tmp_path / 'pipe'
  os.mkfifo(path)
  content = servers.encode(30, 'matroska')
  threading.Thread(target=_write_and_hold, args=(path, content), daemon=True).start()
  with open_feed(parse_source(str(path))) as feed:
    threading.Timer(0.5, feed.stop).start()
    began = time.monotonic()
    assert 20 < len(list(feed.frames())) <= 30
    assert time.monotonic() - began < 2


def _write_and_hold(path, content):
  with open(path, 'wb') as file:
    file.write(content)
    file.flush()
    time.sleep(5)


def test_damage_of_a_live_source_is_counted_and_left(impatient, monkeypatch):
  content = bytearray(servers.encode(30))
  middle, packet = len(content) // 2 // 188 * 188, 188
  for start in range(middle, middle + 20 * packet, packet):
    content[start + 100 : start + 120] = os.urandom(20)  # behind the heads of packets

  def answer(handler):
    servers.send_head(handler, 'video/mp2t')
    handler.wfile.write(bytes(content))

  found, feeds = [], []
  monkeypatch.setattr(live.Feed, 'stop', lambda feed: feeds.append(feed))
  with servers.serve_http(answer) as url, pytest.raises(SourceLost):
    watch(url, found=found, reconnect_secs=0)
  assert 0 < feeds[0].damaged < 4
  assert 27 <= len(found) <= 30
  assert found[-1][0] == pytest.approx(2.9, abs=0.11)


@pytest.mark.parametrize(
  ('text', 'kind', 'name', 'is_live'),
  [
    ('clip.mp4', File, 'clip.mp4', False),
    ('0', Camera, '/dev/video0', True),
    ('/dev/video7', Camera, '/dev/video7', True),
    ('-', Pipe, 'the standard input', True),
    ('rtsp://me:pw@camera/live', Address, 'rtsp://me:***@camera/live', True),
    ('RTSP://me@camera/live', Address, 'RTSP://***@camera/live', True),
    ('http://me:p@w@x/a?c=d&e', Address, 'http://me:***@x/a?***', True),
    ('http://me:p/w@x/a', Address, 'http://***@x/a', True),
    ('http://x/a@b', Address, 'http://***@b', True),
  ],
)
def test_what_a_text_names(text, kind, name, is_live):
  source = parse_source(text)
  assert (type(source), source.name, source.live) == (kind, name, is_live)


SLIDES = [0, 0.5, 13, 40, 40.5, 65]  # seconds


@pytest.mark.parametrize('suffix', ['ts', 'mkv'])
def test_slides_through_a_pipe_are_those_of_the_file(suffix, tmp_path):
  path, pipe = write(tmp_path / f'a.{suffix}', SLIDES), tmp_path / 'pipe'
  os.mkfifo(pipe)
  content = (tmp_path / f'a.{suffix}').read_bytes()
  threading.Thread(target=pipe.write_bytes, args=(content,), daemon=True).start()
  with open_feed(parse_source(str(pipe))) as feed:
    piped = [(shown.secs, shown.part) for shown in hold_frames(feed.frames(), 5)]
  assert piped == [(secs, 0) for secs, _ in read_frames(path, fps=5)]
  assert len(piped) > 5 * SLIDES[-1]


class _Stamped:
  fps = 1.0
  format = frozenset(['mpegts'])
  stream = container = type('', (), {'duration': None, 'size': -1})


def place_all(monkeypatch, stamps_secs, walls_secs, comes_back=True):
  """(seconds, part) of frames with these stamps that come at these times."""
  now = 1000.0
  monkeypatch.setattr(live.time, 'monotonic', lambda: now)
  line, placed = live._Line(1.0, comes_back), []
  line.connect(_Stamped)
  for stamp_secs, wall_secs in zip(stamps_secs, walls_secs, strict=True):
    now = 1000.0 + wall_secs
    line.pass_by(line.place(stamp_secs, None, _Stamped))
    placed.append((line._last_secs, line._part))
  return placed


@pytest.mark.parametrize(
  ('stamps_secs', 'walls_secs', 'placed'),
  [
    # Each slide comes when it is to be shown, or all at once.
    ([0, 1, 20, 21], [0, 1, 20, 21], [(0, 0), (1, 0), (20, 1), (21, 1)]),
    ([0, 1, 20, 21], [0, 0, 0, 0], [(0, 0), (1, 0), (20, 0), (21, 0)]),
    # The decoder holds two frames back: they come after the pause.
    ([0, 1, 2, 30, 31], [2, 28, 29, 30, 31], [(0, 0), (1, 0), (2, 0), (28, 1), (29, 1)]),
    # Stamps that go on where they were after a pause, and a clock that is set.
    ([0, 1, 2], [0, 30, 31], [(0, 0), (1, 0), (2, 0)]),
    ([0, 1, 5000, 5001], [0, 1, 2, 3], [(0, 0), (1, 0), (2, 1), (3, 1)]),
  ],
)
def test_a_picture_of_a_camera_is_over_where_nothing_came_for_long(
  stamps_secs, walls_secs, placed, monkeypatch
):
  assert place_all(monkeypatch, stamps_secs, walls_secs) == placed
  lone = place_all(monkeypatch, stamps_secs, walls_secs, comes_back=False)
  assert lone == [(secs, 0) for secs in stamps_secs]


def serve_without_length(content, *shares):
  """A server that hangs up at the end of the content, or first after these shares of it."""
  ends = itertools.chain([round(share * len(content)) for share in shares], itertools.repeat(None))

  def answer(handler):
    servers.send_head(handler, 'video/any')
    handler.wfile.write(content[: next(ends)])

  return servers.serve_http(answer)


def write_reordered(tmp_path, suffix):
  """A video whose decoder holds frames back; every 0.1 s of 4 s a frame."""
  path = tmp_path / f'a.{suffix}'
  with av.open(str(path), 'w', options={'movflags': 'faststart'}) as output:
    stream = output.add_stream('libx264', rate=10, options={'bf': '3', 'g': '10'})
    stream.width = stream.height = 64
    stream.pix_fmt = 'yuv420p'
    for picture in FRAMES:
      output.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format='rgb24')))
    output.mux(stream.encode(None))
  return path.read_bytes()


@pytest.mark.parametrize('suffix', ['mp4', 'mkv'])
def test_a_file_without_a_length_in_bytes_ends_as_a_file(suffix, tmp_path, impatient):
  content = write_reordered(tmp_path, suffix)
  with serve_without_length(content) as url:
    found, said = watch(f'{url}/a')
  assert [round(secs, 2) for secs, _, _ in found] == [i / 10 for i in range(40)]
  assert not said


@pytest.mark.parametrize('suffix', ['mp4', 'mkv'])
def test_a_file_without_a_length_in_bytes_goes_on_where_it_was_lost(suffix, tmp_path, impatient):
  content = write_reordered(tmp_path, suffix)
  with serve_without_length(content, 0.6) as url:
    found, said = watch(f'{url}/a')
  assert [round(secs, 2) for secs, _, _ in found] == [i / 10 for i in range(40)]
  assert len(said) == 2
  found = []
  with serve_without_length(content, 0.6, 0.6) as url, pytest.raises(DecodeError):
    watch(f'{url}/a', found=found)
  assert 10 < len(found) < 30


def test_a_stream_of_no_length_ends_with_its_connection_if_none_is_wanted_again():
  with serve_without_length(servers.encode(6)) as url:
    found = []
    with pytest.raises(SourceLost, match='did not come back within 0 s'):
      watch(f'{url}/a.ts', found=found, reconnect_secs=0)
  assert [number for _, number, _ in found] == list(range(6))


@pytest.mark.parametrize('fps', [None, 5.0])
def test_frames_are_shown_after_their_source_was_closed(fps, no_hang):
  """A short file is over, and closed by its thread, before a network has compiled."""
  content = servers.encode(8, 'mp4', movflags='faststart')

  def answer(handler):
    servers.send_head(handler, 'video/mp4', len(content))
    handler.wfile.write(content)

  with servers.serve_http(answer) as url, open_feed(parse_source(url)) as feed:
    frames = list(feed.frames())
    while any(thread.name == 'live source' for thread in threading.enumerate()):
      time.sleep(0.01)
    painting = Painting(EvalClip(frames=1, size=32, stride=1).frame)
    shown = hold_frames(frames, fps) if fps else frames
    pictures = [painting.paint(one) for one in shown]
    alone = [painting.paint(one) for one in hold_frames(frames[:1], 20.0)]
  assert len(pictures) == (4 if fps else 8)
  assert len(alone) == 2  # a single frame lasts as long as the source states
