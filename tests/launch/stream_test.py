"""`movinet stream`: the same answers as evaluation, saved pictures, constant memory."""

import dataclasses
import io
import itertools
import json
import pathlib
import re
import signal

import av
import jax
import numpy as np
import pytest

from launch.runs.trained import load_trained
from launch.verbs import stream
from movinet_jax import data, serve
from movinet_jax.data import motion

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
  # Frames of a stream and of a clip are scaled by two filters, whose pixels differ a little.
  np.testing.assert_allclose(given, wanted, atol=5e-4)


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
  assert lasts[0] == pytest.approx(lasts[1], abs=1e-3)
  before, after = (
    [seconds for seconds, _ in data.read_frames(str(path))] for path in (source, out)
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
  assert set(summary) == {'frames', 'frames_per_sec', 'p50_ms', 'p90_ms', 'p99_ms'}
  assert summary['frames'] == 8


def test_the_loss_says_whether_videos_have_several_labels(
  trained, motion_videos, monkeypatch, capsys
):
  run = load_trained(str(trained))
  totals = []
  for name in ('softmax', 'sigmoid'):
    config = dataclasses.replace(run.config, loss={'name': name})
    changed = dataclasses.replace(run, config=config)
    monkeypatch.setattr(stream, 'load_trained', lambda *_, run=changed: run)
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
