"""Files as cutters, cameras and recorders leave them: all frames, by every way of reading."""

import struct
from fractions import Fraction

import av
import numpy as np
import pytest
from av.bitstream import BitStreamFilterContext

from movinet_jax.data import address, live, packets, reader, scans, timeline, track
from movinet_jax.data.video import Cut, DecodeError

SIDE = 32
# The bytes that a container wants its H.264 in, where they are not those of MP4.
_ANNEX_B = ('avi', 'mpegts')


@pytest.fixture(autouse=True, params=['kept', 'sought'])
def _memory(request, monkeypatch):
  """Every file is read twice: with its packets in memory, and as a large file is, by seeking."""
  if request.param == 'sought':
    monkeypatch.setattr(packets, 'KEPT_BYTES', 0)
  monkeypatch.setattr(track, '_SCANS', scans.Scans())


def cut_whole(info, times_secs=()):
  return Cut(tuple(times_secs), (0, 0, info.width, info.height), (16, 16))


def remux(source, path, *, start_secs=0.0, later_secs=0.0, sound=False, options=None):
  """Copies packets as `ffmpeg -ss START -c copy` does, on a clock that is `later_secs` late."""
  with av.open(str(source)) as old, av.open(str(path), 'w', options=options or {}) as new:
    streams = [old.streams.video[0], *(old.streams.audio[:1] if sound else ())]
    # Opaque: nothing here encodes AV1.
    copies = {s.index: new.add_stream_from_template(s, opaque=True) for s in streams}
    video = streams[0]
    annex_b = None
    if video.codec_context.name == 'h264' and new.format.name in _ANNEX_B:
      annex_b = BitStreamFilterContext('h264_mp4toannexb', video)
    if start_secs:
      old.seek(int(start_secs * 1e6))
    for packet in old.demux(*streams):
      if packet.dts is None:
        continue
      shift = round((later_secs - start_secs) / packet.time_base)
      packet.pts, packet.dts, index = packet.pts + shift, packet.dts + shift, packet.stream_index
      for part in annex_b.filter(packet) if annex_b and index == video.index else [packet]:
        part.stream = copies[index]
        new.mux(part)
  return str(path)


def decode_plainly(path):
  """The brightness of every frame that PyAV's own loop shows, as a player would."""
  with av.open(str(path)) as container:
    return [f.to_ndarray(format='gray')[:16, :16] for f in container.decode(video=0)]


def check_whole(path, frames=None):
  """Checks that all ways of reading show the same frames at the same times; returns times."""
  plain = decode_plainly(path)
  shown = list(reader.read_frames(path, choose=cut_whole))
  secs, pictures = [at for at, _ in shown], [picture for _, picture in shown]
  assert reader.count_frames(path) == len(shown) == len(plain) == (frames or len(plain))
  seen = []
  clip, _ = reader.read_clip(path, lambda info: seen.append(info) or cut_whole(info, secs))
  np.testing.assert_array_equal(clip, pictures)
  assert seen[-1].frames == len(shown)
  assert secs[-1] == pytest.approx(seen[-1].duration_secs - 1 / seen[-1].fps, abs=0.01)
  for picks in ([len(secs) // 2], [0, len(secs) - 1], [len(secs) * 3 // 4, 1]):
    times = [secs[i] for i in picks]
    clip, _ = reader.read_clip(path, lambda info: cut_whole(info, times))  # noqa: B023
    np.testing.assert_array_equal(clip, [pictures[i] for i in picks])
  return secs


@pytest.fixture(scope='module')
def noise(tmp_path_factory, encode):
  """75 frames that all differ, B frames and a key frame each 25."""
  steps = np.random.default_rng(0).normal(0, 9, (75, SIDE, SIDE, 3)).cumsum(axis=0) + 128
  frames = np.clip(steps, 0, 255).astype(np.uint8)
  path = tmp_path_factory.mktemp('noise') / 'noise.mp4'
  return encode(path, frames, g='25', bf='2', sc_threshold='0')


@pytest.mark.parametrize('start_secs', [0.32, 1.48, 2.92])
@pytest.mark.parametrize('suffix', ['mp4', 'mov', 'mkv', 'ts', 'flv'])
def test_a_clip_cut_without_encoding_is_what_a_player_shows(noise, suffix, start_secs, tmp_path):
  path = remux(noise, tmp_path / f'cut.{suffix}', start_secs=start_secs)
  hides = suffix in ('mp4', 'mov')  # an edit list hides what comes before the cut
  frames = round(25 * (3 - start_secs)) if hides else 75 - 25 * int(start_secs)
  secs = check_whole(path, frames)
  assert np.diff(secs) == pytest.approx(1 / 25, abs=2e-3)
  info = reader.probe(path)
  assert (info.width, info.height) == (SIDE, SIDE)


@pytest.mark.parametrize('suffix', ['mp4', 'mov', 'mkv', 'ts', 'flv', 'nut', 'asf', 'avi'])
def test_a_clock_that_begins_late_is_measured_from_its_first_stamp(noise, suffix, tmp_path):
  path = tmp_path / f'late.{suffix}'
  if suffix == 'avi':  # which has no clock
    remux(noise, path)
  else:
    remux(noise, path, later_secs=40.0, options={'avoid_negative_ts': 'disabled'})
  secs = check_whole(str(path), 75)
  assert secs[-1] == pytest.approx(74 / 25, abs=2e-3)
  if suffix not in ('ts', 'asf'):
    assert reader.probe(str(path)).duration_secs == pytest.approx(3.0, abs=0.1)
  content = path.read_bytes()
  path.write_bytes(content[: len(content) // 2 | 1])
  with pytest.raises(DecodeError):
    reader.count_frames(str(path))


@pytest.mark.parametrize('share', [0.5, 0.85, 0.97])
@pytest.mark.parametrize('suffix', ['mkv', 'asf', 'flv', 'ts', 'm2ts', 'avi', 'pieces.mp4', 'mp4'])
def test_a_file_that_was_cut_short_is_named(noise, suffix, share, tmp_path):
  """By the sizes that it states, which are exact; in FLV by its length."""
  path = tmp_path / f'whole.{suffix}'
  flags = 'frag_keyframe+empty_moov' if suffix == 'pieces.mp4' else 'faststart'
  remux(noise, path, later_secs=3.0 * (suffix != 'avi'), options={'movflags': flags})
  check_whole(str(path), 75)
  content = path.read_bytes()
  path.write_bytes(content[: int(len(content) * share) | 1])
  if suffix == 'flv' and share > 0.9:
    return  # lengths are rounded
  with pytest.raises(DecodeError):
    reader.count_frames(str(path))
  with pytest.raises(DecodeError):
    list(reader.read_frames(str(path)))


def test_a_transport_stream_that_ends_between_two_packets_is_taken(noise, tmp_path):
  """It states no length. Its frames are the same up to the last, of which a part may be lost."""
  path = tmp_path / 'whole.ts'
  remux(noise, path)
  whole = decode_plainly(str(path))
  content = path.read_bytes()
  path.write_bytes(content[: len(content) * 2 // 3 // 188 * 188])
  frames = sum(1 for _ in reader.read_frames(str(path), choose=cut_whole))
  assert 40 < frames < 75
  np.testing.assert_array_equal(decode_plainly(str(path))[:-1], whole[: frames - 1])


@pytest.mark.parametrize('later_secs', [0.0, 40.0])
def test_a_piece_of_a_fragmented_stream_is_whole(noise, later_secs, tmp_path):
  """DASH and HLS: the header, and behind it the pieces from anywhere in the stream."""
  whole = tmp_path / 'whole.mp4'
  flags = 'frag_keyframe+empty_moov+default_base_moof'
  remux(noise, whole, later_secs=later_secs, options={'movflags': flags})
  content = whole.read_bytes()
  starts = [i - 4 for i in range(len(content)) if content.startswith(b'moof', i)]
  assert len(starts) == 3
  piece = tmp_path / 'piece.mp4'
  piece.write_bytes(content[: starts[0]] + content[starts[1] :])
  assert check_whole(str(piece), 50)[-1] == pytest.approx(49 / 25, abs=2e-3)


def test_a_video_that_starts_after_its_sound(tmp_path, noise):
  for suffix in ('mkv', 'mp4', 'ts'):
    path = tmp_path / f'sound_first.{suffix}'
    with av.open(noise) as old, av.open(str(path), 'w') as new:
      video = new.add_stream_from_template(old.streams.video[0])
      sound = new.add_stream('aac', rate=16_000, layout='mono')
      for i in range(125):
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), 'fltp', 'mono')
        frame.rate, frame.pts = 16_000, 1024 * i
        new.mux(sound.encode(frame))
      annex = BitStreamFilterContext('h264_mp4toannexb', old.streams.video[0])
      for packet in old.demux(old.streams.video[0]):
        if packet.dts is not None:
          shift = round(5 / packet.time_base)
          packet.pts, packet.dts = packet.pts + shift, packet.dts + shift
          for part in annex.filter(packet) if suffix == 'ts' else [packet]:
            part.stream = video
            new.mux(part)
      new.mux(sound.encode(None))
    check_whole(str(path), 75)


@pytest.mark.parametrize('share', [0.03, 0.2, 0.5])
def test_a_transport_stream_that_begins_between_key_frames(noise, share, tmp_path):
  whole = remux(noise, tmp_path / 'whole.ts')
  with open(whole, 'rb') as file:
    content = file.read()
  path = tmp_path / 'middle.ts'
  path.write_bytes(content[int(len(content) * share) // 188 * 188 :])
  check_whole(str(path))


def write_ticks(path, ticks, codec, fps=25, **options):
  """A video whose n-th frame has the brightness 8 n + 16 and is shown at a tick of 1 / fps."""
  with av.open(str(path), 'w') as output:
    stream = output.add_stream(codec, rate=fps, options=options)
    stream.width = stream.height = 64
    stream.pix_fmt = 'yuvj420p' if codec == 'mjpeg' else 'yuv420p'
    stream.codec_context.time_base = Fraction(1, fps)
    for number, tick in enumerate(ticks):
      level = np.full((64, 64, 3), 8 * number + 16, np.uint8)
      picture = av.VideoFrame.from_ndarray(level, format='rgb24')
      picture.pts, picture.time_base = tick, Fraction(1, fps)
      output.mux(stream.encode(picture))
    output.mux(stream.encode(None))
  return str(path)


def read_levels(path):
  return [
    (at, round((picture.mean() - 16) / 8))
    for at, picture in reader.read_frames(path, choose=cut_whole)
  ]


GAPS = [*range(10), *range(20, 60, 4)]  # ten in a row, a gap, then every fourth


@pytest.mark.parametrize('codec', ['mjpeg', 'mpeg4', 'libx264'])
@pytest.mark.parametrize(
  'ticks', [GAPS, range(0, 75, 5), [0, 1, 2, 74]], ids=['gaps', '5th', 'end']
)
def test_avi_frames_are_shown_at_their_chunks(codec, ticks, tmp_path):
  options = {'mjpeg': {'qmin': '1', 'qmax': '2'}, 'mpeg4': {'qmin': '1', 'qmax': '2'}}
  options = options.get(codec, {'crf': '1', 'bf': '0'})
  path = write_ticks(tmp_path / 'gaps.avi', ticks, codec, **options)
  secs = check_whole(path, len(ticks))
  np.testing.assert_allclose(secs, np.array(ticks) / 25 - ticks[0] / 25, atol=1e-6)
  assert [level for _, level in read_levels(path)] == list(range(len(ticks)))


@pytest.mark.parametrize('fps', [25, 30])
def test_avi_copied_from_a_variable_rate_keeps_its_times(fps, tmp_path):
  """B frames: AVI says when a packet is decoded, the decoder says how much later it is shown."""
  source = write_ticks(tmp_path / 'a.mp4', GAPS, 'libx264', fps, crf='1', bf='2')
  path = remux(source, tmp_path / 'a.avi')
  secs = check_whole(path, len(GAPS))
  # The last frames come out behind the last packet: the step before them goes on.
  np.testing.assert_allclose(secs, np.array(GAPS) / fps, atol=2e-3)
  assert reader.probe(path).duration_secs == pytest.approx(60 / fps, rel=0.05)
  with open(path, 'rb') as file:
    content = file.read()
  with open(path, 'wb') as file:
    file.write(content[: len(content) * 6 // 10])
  with pytest.raises(DecodeError, match='truncated'):
    reader.count_frames(path)


@pytest.mark.parametrize('suffix', ['avi', 'asf'])
def test_a_file_without_times_that_begins_between_key_frames(noise, suffix, tmp_path):
  """Frames that cannot be decoded are not counted, though nothing but the decoder tells which."""
  path = tmp_path / f'middle.{suffix}'
  with av.open(noise) as old, av.open(str(path), 'w') as new:
    stream = new.add_stream_from_template(old.streams.video[0])
    annex_b = BitStreamFilterContext('h264_mp4toannexb', old.streams.video[0])
    for number, packet in enumerate(old.demux(old.streams.video[0])):
      if packet.dts is not None:
        for part in annex_b.filter(packet) if suffix == 'avi' else [packet]:
          if number > 10:
            part.stream = stream
            new.mux(part)
  check_whole(str(path))


@pytest.mark.parametrize('suffix', ['mp4', 'mkv', 'ts', 'flv'])
def test_slides_far_apart_are_shown_at_their_times(suffix, tmp_path):
  """Three frames each 20 s: the mean rate is far from the rate of those three."""
  ticks = [500 * slide + i for slide in range(4) for i in range(3)]
  path = write_ticks(tmp_path / f'slides.{suffix}', ticks, 'libx264', crf='1')
  np.testing.assert_allclose(check_whole(path, 12), np.array(ticks) / 25, atol=2e-3)
  seen = []
  reader.read_clip(path, lambda info: seen.append(info) or cut_whole(info, [0.0]))
  with live.open_feed(address.File(path)) as feed:  # a stride counts frames at this rate
    assert feed.find_mean_fps() == pytest.approx(seen[-1].fps)


def test_two_recordings_in_one_transport_stream(noise, tmp_path):
  """`cat a.ts b.ts`: the clock is set anew in the middle, and time goes on."""
  one = remux(noise, tmp_path / 'one.ts')
  with open(one, 'rb') as file:
    content = file.read()
  path = tmp_path / 'two.ts'
  path.write_bytes(content + content)
  secs = check_whole(str(path), 150)
  assert secs[-1] == pytest.approx(149 / 25, abs=0.05)


def _set_matrix(path, matrix):
  with open(path, 'rb') as file:
    content = bytearray(file.read())
  at = content.index(b'tkhd') + 4 + 40
  content[at : at + 36] = struct.pack('>9i', *matrix)
  with open(path, 'wb') as file:
    file.write(content)


ONE = 1 << 16
MATRICES = {
  'as it is': ((ONE, 0, 0, ONE), lambda p: p),
  'mirrored left and right': ((-ONE, 0, 0, ONE), lambda p: p[:, ::-1]),
  'mirrored up and down': ((ONE, 0, 0, -ONE), lambda p: p[::-1]),
  'half a turn': ((-ONE, 0, 0, -ONE), lambda p: p[::-1, ::-1]),
  'quarter turn': ((0, ONE, -ONE, 0), lambda p: np.rot90(p, -1)),
  'quarter turn back': ((0, -ONE, ONE, 0), np.rot90),
  'transposed': ((0, ONE, ONE, 0), lambda p: p.transpose(1, 0, 2)),
  'transposed and turned': ((0, -ONE, -ONE, 0), lambda p: p[::-1, ::-1].transpose(1, 0, 2)),
  'a degree off': ((65526, 1144, -1144, 65526), lambda p: p),
  '45 degrees': ((46341, 46341, -46341, 46341), lambda p: p),
}


@pytest.mark.parametrize('name', MATRICES)
def test_display_matrices_are_followed_as_players_do(name, tmp_path):
  (a, b, c, d), turn = MATRICES[name]
  picture = np.full((48, 64, 3), 90, np.uint8)
  picture[:16, :16], picture[32:, :16] = 250, 10  # upper left white, lower left black
  path = str(tmp_path / 'a.mp4')
  with av.open(path, 'w') as output:
    stream = output.add_stream('libx264', rate=25, options={'crf': '1'})
    stream.width, stream.height, stream.pix_fmt = 64, 48, 'yuv420p'
    for _ in range(3):
      output.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format='rgb24')))
    output.mux(stream.encode(None))
  _set_matrix(path, (a, b, 0, c, d, 0, 0, 0, 1 << 30))
  wanted = turn(picture)
  info = reader.probe(path)
  assert (info.height, info.width) == wanted.shape[:2]
  clip, _ = reader.read_clip(
    path, lambda i: Cut((0.0,), (0, 0, i.width, i.height), (i.height, i.width))
  )
  np.testing.assert_allclose(clip[0], wanted, atol=12)
  for _, picture in reader.read_frames(path):
    np.testing.assert_array_equal(picture, clip[0])


def test_tags_in_any_encoding(tmp_path):
  """A title in Latin-1, as old recorders write it."""
  path = str(tmp_path / 'a.mkv')
  with av.open(path, 'w') as output:
    output.metadata['title'] = 'cafe'
    stream = output.add_stream('mjpeg', rate=25)
    stream.width, stream.height, stream.pix_fmt = 32, 32, 'yuvj420p'
    for level in (10, 90):
      picture = np.full((32, 32, 3), level, np.uint8)
      output.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format='rgb24')))
    output.mux(stream.encode(None))
  with open(path, 'rb') as file:
    content = file.read()
  with open(path, 'wb') as file:
    file.write(content.replace(b'cafe', b'caf\xe9'))
  assert reader.count_frames(path) == len(list(reader.read_frames(path))) == 2
  assert reader.probe(path).width == 32


def test_sound_with_a_cover_is_no_video(tmp_path, noise):
  path = str(tmp_path / 'song.mp4')
  with av.open(path, 'w') as output:
    sound = output.add_stream('aac', rate=16_000, layout='mono')
    cover = output.add_stream('mjpeg', rate=1)
    cover.width = cover.height = 64
    cover.pix_fmt = 'yuvj420p'
    cover.disposition = av.stream.Disposition.attached_pic
    picture = av.VideoFrame.from_ndarray(np.full((64, 64, 3), 9, np.uint8), format='rgb24')
    output.mux(cover.encode(picture))
    output.mux(cover.encode(None))
    for i in range(50):
      frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), 'fltp', 'mono')
      frame.rate, frame.pts = 16_000, 1024 * i
      output.mux(sound.encode(frame))
    output.mux(sound.encode(None))
  for read in (reader.count_frames, reader.probe, lambda p: list(reader.read_frames(p))):
    with pytest.raises(DecodeError, match='no video stream, only a cover picture'):
      read(path)


def test_reading_from_a_large_file_keeps_little_of_it(tmp_path, monkeypatch):
  """The packets of a file beyond the limit are not kept, and are found again by seeking."""
  monkeypatch.setattr(packets, 'KEPT_BYTES', 100_000)
  rng = np.random.default_rng(0)
  path = str(tmp_path / 'large.mp4')
  with av.open(path, 'w') as output:
    stream = output.add_stream('mjpeg', rate=25, options={'qmin': '1', 'qmax': '1'})
    stream.width = stream.height = 128
    stream.pix_fmt = 'yuvj420p'
    for _ in range(100):
      noise = rng.integers(0, 256, (128, 128, 3), np.uint8)
      output.mux(stream.encode(av.VideoFrame.from_ndarray(noise, format='rgb24')))
    output.mux(stream.encode(None))
  with track.open_track(path) as opened:
    shown = opened.scan()
    assert len(shown) == len(opened.packets) == 100
    first = next(opened.packets.read(90))
    assert first.pts == shown.pts[90]
  check_whole(path, 100)


def test_a_large_file_is_read_whole_once(noise, monkeypatch):
  monkeypatch.setattr(packets, 'KEPT_BYTES', 0)
  monkeypatch.setattr(track, '_SCANS', scans.Scans())
  read = []
  demux = packets.Packets.scan
  monkeypatch.setattr(packets.Packets, 'scan', lambda self: read.append(1) or demux(self))
  clips = [reader.read_clip(noise, lambda i: cut_whole(i, (2.0, 0.4)))[0] for _ in range(3)]
  np.testing.assert_array_equal(clips[0], clips[2])
  assert len(read) == 1


def test_scans_are_forgotten_by_their_bytes():
  one = scans.Scan((np.zeros(100),), timeline.count_evenly(100, 25), (8, 8))
  kept = scans.Scans(max_bytes=3 * one.nbytes)
  for key in 'abcd':
    kept.put((key,), one)
    kept.get(('a',))
  assert [bool(kept.get((key,))) for key in 'abcd'] == [True, False, True, True]


def _put_edits(path, edits):
  """Replaces the edit list of a file whose header is behind its frames.

  Args:
    edits: (length in 1 / 1000 s, first time shown in units of the track; -1 is nothing).
  """
  with open(path, 'rb') as file:
    content = bytearray(file.read())
  rows = b''.join(struct.pack('>iiI', *edit, ONE) for edit in edits)
  box = struct.pack('>I4sII', 16 + len(rows), b'elst', 0, len(edits)) + rows
  at = content.index(b'elst') - 4
  old = int.from_bytes(content[at : at + 4], 'big')
  content[at : at + old] = box
  for parent in (b'edts', b'trak', b'moov'):
    place = content.index(parent) - 4
    size = int.from_bytes(content[place : place + 4], 'big') + len(box) - old
    content[place : place + 4] = size.to_bytes(4, 'big')
  with open(path, 'wb') as file:
    file.write(content)


@pytest.mark.parametrize(
  'edits',
  [
    [(1000, 10240)],  # from the middle of the first group of pictures
    [(1010, 10000)],  # not at a frame's own time
    [(5000, -1), (2000, 1024)],  # nothing for 5 s, then the first two
    [(400, 20000), (400, 1024)],  # two parts in another order
    [(400, 1024), (400, 26000)],  # two parts
    [(400, 9000), (300, 21000), (300, 3000)],  # three
  ],
)
def test_edit_lists_of_several_parts(edits, noise, tmp_path):
  path = remux(noise, tmp_path / 'edited.mp4')
  with av.open(path) as container:
    assert container.streams.video[0].time_base == Fraction(1, 12800)
  _put_edits(path, edits)
  check_whole(path)
