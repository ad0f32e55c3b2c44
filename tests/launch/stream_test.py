"""`movinet stream`: the same answers as evaluation, saved pictures, constant memory."""

import dataclasses
import io
import itertools
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import time

import av
import jax
import numpy as np
import pytest
from PIL import Image

from launch import main
from launch.errors import ExitCode
from launch.runs.trained import load_trained
from launch.verbs import stream
from movinet_jax import data, serve
from movinet_jax.data import live as feeds
from movinet_jax.data import motion
from movinet_jax.data.address import parse_source
from tests.data import servers

FIXTURES = pathlib.Path(__file__).parents[1] / 'fixtures' / 'videos'


def read_json_lines(capsys):
  return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_the_last_frame_knows_what_the_clip_knows(trained, motion_videos, capsys):
  path = f'{motion_videos}/val/up/00000.mp4'
  options = [f'--checkpoint={trained}', f'--source={path}', '--json', '--top=4']
  assert stream.main(options) == 0
  lines = read_json_lines(capsys)
  assert [line['frame'] for line in lines] == list(range(8))
  run = load_trained(str(trained))
  clip = data.EvalClip(frames=8, size=16, stride=1)
  video, _ = data.read_clip(path, clip.plan)
  logits, _ = jax.jit(run.model.apply)(run.variables, video[None] / np.float32(255))
  wanted = np.sort(np.asarray(jax.nn.softmax(logits[0])))[::-1]
  given = [top['probability'] for top in lines[-1]['top']]
  np.testing.assert_allclose(given, wanted, atol=2e-5)  # they are rounded to 5 digits


def test_chunks_give_the_same_answer(trained, motion_videos, capsys):
  options = [f'--checkpoint={trained}', f'--source={motion_videos}/val/left/00001.mp4']
  last = []
  for chunk in (1, 4):
    assert stream.main([*options, '--json', f'--chunk={chunk}']) == 0
    last.append(read_json_lines(capsys)[-1])
  assert last[0]['frame'] == last[1]['frame'] == 7
  for one, four in zip(last[0]['top'], last[1]['top'], strict=True):
    assert one['label'] == four['label']
    assert one['probability'] == pytest.approx(four['probability'], abs=2e-4)


def test_saves_what_it_saw(trained, tmp_path):
  source, out = FIXTURES / 'h264_10bit.mp4', tmp_path / 'out.mp4'
  options = [f'--checkpoint={trained}', f'--source={source}', f'--save={out}']
  assert stream.main(options) == 0
  pairs = zip(data.read_frames(str(source)), data.read_frames(str(out)), strict=True)
  corners = []
  for (_, before), (_, after) in pairs:
    assert before.shape == after.shape
    upper, lower = slice(0, 100), slice(-20, None)
    assert np.abs(before[upper].astype(int) - after[upper]).mean() < 8
    corners.append(np.abs(before[lower].astype(int) - after[lower]).mean())
  assert len(corners) == 30
  assert np.mean(corners) > 8  # the band with the prediction
  with pytest.raises(FileExistsError):
    stream.main(options)


def test_bad_sources(trained, tmp_path):
  text = tmp_path / 'text.mp4'
  text.write_text('not a video')
  for source, error in ((text, data.DecodeError), (tmp_path / 'none.mp4', Exception)):
    with pytest.raises(error, match=source.name):
      stream.main([f'--checkpoint={trained}', f'--source={source}'])


def test_bad_places_fail_before_anything_is_loaded(tmp_path):
  options = ['--checkpoint=none', '--source=none.mp4']
  with pytest.raises(FileNotFoundError, match='its folder is not there'):
    stream.main([*options, f'--save={tmp_path / "none" / "out.mp4"}'])
  with pytest.raises(OSError, match='name too long') as raised:
    stream.main([*options, f'--save={tmp_path / ("o" * 250)}.mp4'])
  assert raised.value.__context__ is None  # not even the missing checkpoint was seen


@pytest.mark.parametrize('fps', ['0', '-1', 'nan', 'inf', 'x'])
def test_a_rate_is_above_zero(fps, capsys):
  with pytest.raises(SystemExit):
    stream.main(['--checkpoint=none', '--source=none.mp4', f'--fps={fps}'])
  assert f'--fps: {fps!r} is not a number above 0' in capsys.readouterr().err


@pytest.mark.parametrize(('even', 'fps'), [(True, None), (True, 60), (False, 60)])
def test_saves_in_the_time_of_the_source(even, fps, trained, tmp_path):
  source, out = FIXTURES / 'h264_10bit.mp4', tmp_path / 'out.mp4'
  if not even:
    source = tmp_path / 'uneven.mp4'
    with serve.Recorder(str(source)) as recorder:
      for secs in (0, 0.04, 0.08, 0.5, 1.5, 1.6, 1.8):
        recorder.write(np.zeros((32, 32, 3), np.uint8), [], secs)
  options = [f'--checkpoint={trained}', f'--source={source}', f'--save={out}']
  assert stream.main([*options, *([f'--fps={fps}'] if fps else [])]) == 0
  lasts = [data.probe(str(path)).duration_secs for path in (source, out)]
  # A clip shows the last frame for as long as the others on average, here 0.3 s, not 0.2.
  assert lasts[0] == pytest.approx(lasts[1] - (0 if even else 0.1), abs=1e-3)
  before, after = (
    [seconds for seconds, _ in data.read_frames(str(path), fps=rate)]
    for path, rate in ((source, fps), (out, None))
  )
  np.testing.assert_allclose(after, np.array(before) - before[0], atol=1e-3)


def test_what_came_before_an_error_is_kept(trained, tmp_path, capsys):
  source, cut = FIXTURES / 'h264_10bit.mp4', tmp_path / 'cut.mkv'
  cut.write_bytes(remux(source)[:-20_000])
  out = tmp_path / 'out.mp4'
  options = [f'--checkpoint={trained}', f'--source={cut}', f'--save={out}']
  with pytest.raises(data.DecodeError, match='truncated'):
    stream.main(options)
  assert 2 < len(list(data.read_frames(str(out)))) < 30
  assert capsys.readouterr().err.splitlines() == [f'saved {out}']
  text = tmp_path / 'text.mp4'
  text.write_text('not a video')
  with pytest.raises(data.DecodeError, match=text.name):
    stream.main([options[0], f'--source={text}', f'--save={tmp_path / "b.mp4"}'])
  short = [f'--source={source}', '--chunk=31', f'--save={tmp_path / "b.mp4"}']
  with pytest.raises(ValueError, match='shorter than one chunk'):
    stream.main([options[0], *short])
  assert not list(tmp_path.glob('b*'))


def remux(path):
  """The video in a container that is written from beginning to end."""
  out = io.BytesIO()
  with av.open(str(path)) as given, av.open(out, 'w', format='matroska') as taken:
    stream = taken.add_stream_from_template(given.streams.video[0])
    for packet in given.demux(given.streams.video[0]):
      if packet.dts is not None:
        packet.stream = stream
        taken.mux(packet)
  return out.getvalue()


def test_a_signal_ends_the_stream_and_keeps_the_recording(trained, start_movinet, tmp_path):
  long, out = tmp_path / 'long.mp4', tmp_path / 'out.mp4'
  motion.write_video(str(long), np.zeros((3000, 32, 32, 3), np.uint8), fps=10)
  options = [f'--checkpoint={trained}', f'--source={long}', f'--save={out}']
  process = start_movinet(['stream', *options])
  for _ in range(5):
    process.stdout.readline()
  process.send_signal(signal.SIGINT)
  output, _ = process.communicate(timeout=60)
  assert process.returncode == 0, output
  assert 'a second with decoding' in output
  assert f'saved {out}' in output
  assert 5 <= len(list(data.read_frames(str(out)))) < 3000


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_a_second_interrupt_does_not_wait_for_the_source(number):
  before = signal.getsignal(number)
  items = stream.until_stopped(itertools.count())
  assert next(items) == 0
  signal.raise_signal(number)
  assert list(items) == []
  assert signal.getsignal(number) is before

  def stuck():
    signal.raise_signal(number)
    signal.raise_signal(signal.SIGINT)
    yield

  with pytest.raises(KeyboardInterrupt):
    list(stream.until_stopped(stuck()))


def test_the_summary_ends_the_messages(trained, motion_videos, tmp_path, capsys):
  options = [f'--checkpoint={trained}', f'--source={motion_videos}/val/up/00000.mp4']
  assert stream.main(options) == 0
  assert re.fullmatch(
    r'8 frames, [\d.]+ a second .* [\d.]+ ms \(median\).*\n', capsys.readouterr().err
  )
  assert stream.main([*options, '--json', f'--save={tmp_path / "out.mp4"}']) == 0
  summary = json.loads(capsys.readouterr().err.splitlines()[-1])
  wanted = {'frames', 'frames_per_sec', 'p50_ms', 'p90_ms', 'p99_ms', 'damaged'}
  assert set(summary) == wanted
  assert (summary['frames'], summary['damaged']) == (8, 0)


def test_probabilities_add_up_unless_videos_have_several_labels(
  trained, motion_videos, monkeypatch, capsys
):
  run = load_trained(str(trained))
  totals = []
  for several in (False, True):
    changed = dataclasses.replace(run, multi_label=several)
    monkeypatch.setattr(stream, 'load_given', lambda *_, run=changed, **__: run)
    source = f'--source={motion_videos}/val/up/00000.mp4'
    assert stream.main(['--checkpoint=run', source, '--json', '--top=4']) == 0
    totals.append(sum(t['probability'] for t in read_json_lines(capsys)[-1]['top']))
  assert totals[0] == pytest.approx(1, abs=1e-3)
  assert totals[1] != pytest.approx(1, abs=1e-2)


def test_several_labels_are_judged_one_by_one(trained):
  run = load_trained(str(trained))
  frames = np.zeros((1, 16, 16, 3), np.uint8)
  one, several = (
    serve.Live(run.model, run.variables, (16, 16), multi_label=m)(frames).probabilities
    for m in (False, True)
  )
  assert one.sum() == pytest.approx(1)
  odds = several / (1 - several)
  np.testing.assert_allclose(odds / odds.sum(), one, atol=1e-4)


@pytest.mark.parametrize('fps', [5, 25])
def test_a_stream_answers_as_an_evaluation_of_the_same_rate(fps, trained, tmp_path, capsys):
  """A source that is slower than the network, and one that is faster and does not divide."""
  noise = np.random.default_rng(0).integers(0, 256, (fps + 3, 24, 32, 3), np.uint8)
  path = str(tmp_path / 'a.mp4')
  motion.write_video(path, noise, fps)
  assert stream.main([f'--checkpoint={trained}', f'--source={path}', '--fps=10', '--json']) == 0
  lines = read_json_lines(capsys)
  run = load_trained(str(trained))
  clip = dataclasses.replace(run.clip, stride=None, fps=10, frames=len(lines))
  video, _ = data.read_clip(path, clip.plan)
  logits, _ = jax.jit(run.model.apply)(run.variables, video[None] / np.float32(255))
  wanted = np.sort(np.asarray(jax.nn.softmax(logits[0])))[::-1]
  given = [top['probability'] for top in lines[-1]['top']]
  np.testing.assert_allclose(given, wanted[:3], atol=2e-5)
  assert [line['secs'] for line in lines] == [i / 10 for i in range(len(lines))]


def write_scenes(path, *scenes, fps=10):
  """A video of stripes in a color each, so many frames of it."""
  frames = []
  for number, (color, count) in enumerate(scenes):
    stripes = np.zeros((24, 32, 3), np.uint8)
    stripes[:: 2 + number] = color
    frames += [stripes] * count
  motion.write_video(str(path), np.stack(frames), fps)
  return str(path)


def answer(run, frames, memory=None):
  """Probabilities of the classes of frames of a file, the last first, by a new stream."""
  live = serve.Live(run.model, run.variables, (16, 16), memory=memory)
  return sorted((live(frame[None]) for frame in frames), key=lambda p: -p.frame)


def test_what_a_stream_remembers_is_chosen(trained, tmp_path, capsys):
  path = write_scenes(tmp_path / 'a.mp4', ((200, 30, 30), 8), ((30, 200, 30), 6))
  options = [f'--checkpoint={trained}', f'--source={path}', '--json', '--top=4']
  run = load_trained(str(trained))
  frames = [frame for _, frame in data.read_frames(path, choose=run.clip.frame)]
  kinds = {
    'exact': None,
    'window:0.4': serve.Window(0.4, 10),
    'forget': serve.Forgetting(4 / 10, 10),  # a clip of 4 frames
  }
  lasts = {}
  for text, memory in kinds.items():
    assert stream.main([*options, f'--memory={text}']) == 0
    given = [top['probability'] for top in read_json_lines(capsys)[-1]['top']]
    wanted = np.sort(answer(run, frames, memory)[0].probabilities)[::-1]
    np.testing.assert_allclose(given, wanted, atol=2e-5, err_msg=text)
    lasts[text] = given
  assert stream.main(options) == 0
  assert [top['probability'] for top in read_json_lines(capsys)[-1]['top']] == lasts['exact']
  assert len({tuple(given) for given in lasts.values()}) == 3


@pytest.mark.parametrize(
  ('wanted', 'source', 'memory', 'told'),
  [
    (None, 'a.mp4', serve.Exact(), ''),
    (None, 'rtsp://camera', serve.Window(8, 5), 'of the last 4 to 8 s (--memory=window:8)'),
    (None, '-', serve.Window(8, 5), '--memory=window:8'),
    (('exact', None), '0', serve.Exact(), ''),
    (('window', 3.0), 'a.mp4', serve.Window(3, 5), 'of the last 1.5 to 3 s'),
    (('forget', None), '0', serve.Forgetting(4, 5), 'weighs half after 4 s (--memory=forget:4)'),
    (('forget', 2.0), '0', serve.Forgetting(2, 5), 'weighs half after 2 s'),
  ],
)
def test_live_sources_forget_and_files_do_not(wanted, source, memory, told, capsys):
  clip = data.EvalClip(frames=20, size=16, fps=5)
  assert stream.choose_memory(wanted, parse_source(source), clip, 5) == memory
  error = capsys.readouterr().err
  assert told in error
  assert bool(error) == bool(told)


@pytest.mark.parametrize(
  'text', ['windw', 'window:', 'window:0', 'window:x', 'forget:-1', 'forget:inf', 'exact:3', '']
)
def test_a_memory_that_is_none_is_told(text, capsys):
  with pytest.raises(SystemExit):
    stream.main(['--checkpoint=none', '--source=none.mp4', f'--memory={text}'])
  assert f'{text!r} is none of exact, window, window:SECS, forget' in capsys.readouterr().err


def test_a_cut_makes_a_stream_forget(trained, tmp_path, capsys):
  path = write_scenes(tmp_path / 'a.mp4', ((230, 30, 30), 7), ((30, 230, 30), 5))
  options = [f'--checkpoint={trained}', f'--source={path}', '--json', '--top=4', '--reset-on-cut']
  assert stream.main(options) == 0
  lines = read_json_lines(capsys)
  assert [(line['frame'], line['reset']) for line in lines if 'reset' in line] == [(7, 'cut')]
  assert [line['frame'] for line in lines] == list(range(12))
  run = load_trained(str(trained))
  frames = [frame for _, frame in data.read_frames(path, choose=run.clip.frame)]
  wanted = np.sort(answer(run, frames[7:])[0].probabilities)[::-1]
  given = [top['probability'] for top in lines[-1]['top']]
  np.testing.assert_allclose(given, wanted, atol=2e-5)
  assert stream.main(options[:-2]) == 0
  assert not any('reset' in line for line in read_json_lines(capsys))
  assert stream.main([*options[:2], '--reset-on-cut']) == 0
  assert '    0.70 s  a cut: what was before is forgotten\n' in capsys.readouterr().out


def test_standard_input_is_read_until_a_signal(trained, tmp_path):
  """Also while it waits for frames; SIGUSR1 makes it forget."""
  source = servers.encode(40, 'matroska', cluster_time_limit='100')
  process = subprocess.Popen(
    [
      *(sys.executable, '-m', 'launch.main', 'stream', f'--checkpoint={trained}', '--source=-'),
      *('--json', '--fps=10', f'--save={tmp_path / "out.mp4"}'),
    ],
    stdin=subprocess.PIPE,
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    env={**os.environ, 'PYTHONPATH': os.getcwd()},
  )
  half = len(source) // 2
  process.stdin.write(source[:half])
  process.stdin.flush()
  lines = [json.loads(process.stdout.readline()) for _ in range(10)]
  assert not any('reset' in line for line in lines)
  process.send_signal(signal.SIGUSR1)
  time.sleep(0.5)
  process.stdin.write(source[half:])
  process.stdin.flush()
  while 'reset' not in (line := json.loads(process.stdout.readline())):
    lines.append(line)
  assert line['reset'] == 'asked'
  assert line['frame'] == len(lines)
  time.sleep(0.5)
  process.send_signal(signal.SIGINT)
  began = time.monotonic()
  process.stdout.read()
  error = process.stderr.read().decode()
  assert process.wait(10) == 0, error
  assert time.monotonic() - began < 3
  assert 'answers are of the last 0.4 to 0.8 s (--memory=window:0.8)' in error
  assert f'saved {tmp_path}/out.mp4' in error


def test_an_address_is_streamed_and_its_loss_is_told(trained, capsys, monkeypatch):
  monkeypatch.setattr(feeds, '_RETRY_SECS', (0.1, 0.1))
  content, asked = bytearray(servers.encode(20)), []
  for start in range(len(content) // 2 // 188 * 188, len(content) * 6 // 10, 188):
    content[start + 100 : start + 120] = os.urandom(20)

  def answer(handler):
    asked.append(handler.path)
    if len(asked) > 2:
      return handler.send_error(404)
    servers.send_head(handler, 'video/mp2t')
    handler.wfile.write(bytes(content))
    return None

  with servers.serve_http(answer) as url:
    secret = url.replace('//', '//me:tr0ub4dor@')
    options = [f'--checkpoint={trained}', f'--source={secret}/live', '--json', '--fps=10']
    code = main.main(['stream', *options, '--reconnect-secs=0.5'])
  out, error = capsys.readouterr()
  resets = [line.get('reset') for line in map(json.loads, out.splitlines())]
  assert code == ExitCode.RETRY == 75
  assert resets.count('lost') == 1
  assert len(resets) > 30
  assert 'tr0ub4dor' not in out + error
  assert re.search(r'^http://me:\*\*\*@[\d.:]+/live: is back after', error, re.MULTILINE)
  assert re.search(r'^\d+ frames of the source were damaged$', error, re.MULTILINE)
  assert re.search(r'^movinet stream: .*404 .* come back within 0\.5 s$', error, re.MULTILINE)


@pytest.mark.parametrize(
  ('source', 'code', 'words'),
  [
    ('rtsp://me:tr0ub4dor@127.0.0.1:1/live', 75, 'Connection refused'),
    ('http://me:tr0ub4dor@nowhere.invalid/live', 2, 'no such host'),
    ('ftp://me:tr0ub4dor@nowhere/live', 2, 'begins with ftp://; a source can be'),
    ('gs://bucket/a.mp4', 2, 'begins with gs://'),
    ('/dev/video97', 2, 'there is no camera 97 on this machine'),
    ('97', 2, 'there is no camera 97 on this machine'),
  ],
)
def test_a_source_that_is_not_there_is_told(source, code, words, capsys):
  options = ['stream', '--checkpoint=none', f'--source={source}']
  if 'begins with' in words:  # argparse ends the process itself
    with pytest.raises(SystemExit, match=str(code)):
      main.main(options)
  else:
    assert main.main(options) == code
  error = capsys.readouterr().err
  assert words in error
  assert 'tr0ub4dor' not in error


def test_tiny_sources_are_saved(trained, tmp_path):
  path, out = tmp_path / 'tiny.mkv', tmp_path / 'out.mp4'
  with av.open(str(path), 'w') as container:
    one = container.add_stream('ffv1', rate=10)
    one.width, one.height, one.pix_fmt = 1, 1, 'bgr0'
    for level in range(4):
      frame = np.full((1, 1, 3), 60 * level, np.uint8)
      container.mux(one.encode(av.VideoFrame.from_ndarray(frame, format='rgb24')))
    container.mux(one.encode(None))
  assert stream.main([f'--checkpoint={trained}', f'--source={path}', f'--save={out}']) == 0
  assert len(list(data.read_frames(str(out)))) == 4
  assert sorted(file.name for file in tmp_path.iterdir()) == ['out.mp4', 'tiny.mkv']


def test_a_folder_of_pictures_is_streamed_at_its_rate(trained, tmp_path, capsys):
  for number in range(6):
    picture = Image.fromarray(np.full((24, 32, 3), 40 * number, np.uint8))
    picture.save(tmp_path / f'frame_{number}.png')
  options = [f'--checkpoint={trained}', f'--source={tmp_path}']
  with pytest.raises(ValueError, match='--source-fps'):
    stream.main(options)
  assert stream.main([*options, '--source-fps=4', '--json']) == 0
  secs = [line['secs'] for line in read_json_lines(capsys)]
  assert secs == [0, 0.25, 0.5, 0.75, 1, 1.25]
  with pytest.raises(ValueError, match='--source-fps=4'):
    stream.main([f'--checkpoint={trained}', f'--source={FIXTURES}/h265.mp4', '--source-fps=4'])
