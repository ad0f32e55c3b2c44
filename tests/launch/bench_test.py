"""`movinet bench` times networks, and shows papers' numbers beside its own."""

import dataclasses
import functools
import json
import re

import numpy as np
import pytest
from jax.errors import JaxRuntimeError
from PIL import Image

from launch import main
from launch.runs import panels, timings, tradeoff
from launch.runs.named import read_network
from launch.runs.timings import Case, Row, Timing
from launch.verbs import bench
from movinet_jax import cost, models, serve, timing
from movinet_jax.models import ensemble, movinet, tvn

FAST = '--secs=0.01'
# Networks by name: read once, so that rows of a network are of the same.
read_named = functools.cache(read_network)


@pytest.fixture
def stream(tmp_path):
  return save(tmp_path / 'stream.json', 'movinet', movinet.SMALL['stream-3d'])


@pytest.fixture
def base(tmp_path):
  return save(tmp_path / 'base.json', 'movinet', movinet.SMALL['base'])


def save(path, family, spec):
  models.save_spec(path, family, dataclasses.replace(spec, frames=4, resolution=16))
  return str(path)


def run(*words):
  return main.main(['bench', *words, FAST, '--num-classes=5'])


def list_cases(*words):
  arguments = bench.make_arguments().parse_args(words)
  networks = map(read_network, arguments.networks)
  cases = [case for network in networks for case in bench.list_cases(network, arguments)]
  return [f'{case.describe()} x{case.batch} {case.dtype}' for case in cases]


def make_row(name, kind='clip', median_ms=10.0, **changed):
  network = read_named(name)
  frames, height, width = network.input
  frames = 1 if kind == 'stream' else frames
  case = {'frames': frames, 'height': height, 'width': width, 'batch': 1, 'dtype': 'float32'}
  times = timing.Times(median_ms, median_ms, median_ms, 3)
  return Row(Case(network, kind, **{**case, **changed}), Timing(times, 1.0, 2**20, 'program'))


def test_what_is_timed():
  assert list_cases('movinet/a0-stream') == ['stream 1 x 172² x1 float32']
  assert list_cases('movinet/a0') == ['clip 50 x 172² x1 float32']
  assert list_cases('movinet/a2-stream', '--chunk=1,8', '--batch=1,4', '--clip') == [
    *('stream 1 x 224² x1 float32', 'stream 1 x 224² x4 float32'),
    *('stream 8 x 224² x1 float32', 'stream 8 x 224² x4 float32'),
    *('clip 50 x 224² x1 float32', 'clip 50 x 224² x4 float32'),
  ]
  words = ('--dtype=bfloat16,float32', '--clip=4x64x48', '--train')
  inputs = ('stream 1 x 64 x 48', 'clip 4 x 64 x 48', 'train 4 x 64 x 48')
  types = ('bfloat16', 'float32')
  wanted = [f'{one} x1 {dtype}' for one in inputs for dtype in types]
  assert list_cases('x3d/s-stream', *words) == wanted
  words = ('--chunk=1,8', '--batch=1,4', '--dtype=float32,bfloat16')
  (vain, *clips) = list_cases('movinet/a0', *words)
  assert vain == 'stream 1 x 172² x1 float32'
  assert [case.partition(' ')[0] for case in clips] == ['clip'] * 4


def test_a_table_and_lines_of_json(stream, base, tmp_path, capsys):
  lines = tmp_path / 'times.jsonl'
  words = ('--chunk=2', '--dtype=float32,bfloat16', '--batch=3')
  assert run(stream, base, *words, f'--out={lines}') == 0
  printed = capsys.readouterr().out
  rows = [json.loads(line) for line in lines.read_text().splitlines()]
  kinds = [(row['network'], row['kind'], row['dtype']) for row in rows]
  assert kinds == [
    *((stream, 'stream', dtype) for dtype in ('float32', 'bfloat16')),
    (base, 'stream', 'float32'),  # which it has not, as one row says
    *((base, 'clip', dtype) for dtype in ('float32', 'bfloat16')),
  ]
  assert len({tuple(row) for row in rows}) == 1
  assert [row['error'] is None for row in rows] == [True, True, False, True, True]

  wide, narrow, vain, clips, _ = rows
  assert (wide['batch'], wide['frames'], wide['num_classes']) == (3, 2, 5)
  assert wide['frame_ms'] == pytest.approx(wide['call_ms'] / 6)
  assert wide['call_p10_ms'] <= wide['call_ms'] <= wide['call_p90_ms']
  assert (wide['clip_ms'], wide['clips_per_sec']) == (None, None)
  assert clips['clips_per_sec'] == pytest.approx(3e3 / clips['call_ms'])
  assert wide['calls'] >= 1
  assert min(wide['compile_secs'], clips['compile_secs']) > 0
  assert wide['peak_from'] == 'program'
  assert narrow['peak_bytes'] < wide['peak_bytes']
  assert 'no stream' in vain['error']
  assert vain['call_ms'] is None
  assert {'device', 'jax', 'date'} <= set(wide['machine'])

  table = [line for line in printed.splitlines() if line.startswith((stream, base))]
  assert len(table) == 5
  assert re.search(r'stream 2 x \d+² +3 float32 .* frames .* MiB .* s$', table[0])
  assert re.search(r'failed: it has no stream', table[2])


@pytest.mark.parametrize('frames', [1, 2])
def test_the_program_of_a_stream_is_that_of_live(stream, frames):
  """The same answers to the same frames, so that it is timed as `movinet stream` runs it."""
  network = read_network(stream, 5)
  weights = network.find_weights()
  case = Case(network, 'stream', frames, 16, 16, 1, 'float32')
  call, program, *_ = timings._make_stream(case, network.model, weights)
  live, frames = serve.Live(network.model, weights, (16, 16), frames), timings._draw_video(case)[0]
  mine, theirs = program.memory_analysis(), live.step.program.memory_analysis()
  assert mine.temp_size_in_bytes == theirs.temp_size_in_bytes
  assert mine.output_size_in_bytes == theirs.output_size_in_bytes
  for _ in range(3):
    np.testing.assert_allclose(call()[0], live(frames).probabilities, atol=1e-6)


def test_a_step_of_training(tmp_path, capsys):
  tiny = save(tmp_path / 'tiny.json', 'tvn', tvn.SMALL['base'])
  assert run(tiny, '--train', '--clip=2x16', '--batch=2', '--json') == 0
  clip, step = map(json.loads, capsys.readouterr().out.splitlines())
  assert (clip['kind'], step['kind'], step['frames']) == ('clip', 'train', 2)
  assert step['peak_bytes'] > clip['peak_bytes']
  assert step['clips_per_sec'] == pytest.approx(2e3 / step['call_ms'])


def test_what_fails_does_not_stop_the_others(stream, base, tmp_path, monkeypatch, capsys):
  compile_program = timing.compile_program

  def refuse(function, *arguments, **options):
    if len(arguments) == 1:  # a clip
      raise JaxRuntimeError('RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes.\nmore')
    return compile_program(function, *arguments, **options)

  monkeypatch.setattr(timing, 'compile_program', refuse)
  picture = tmp_path / 'a.png'
  assert run(base, stream, '--json', f'--picture={picture}') == 0
  first, second = map(json.loads, capsys.readouterr().out.splitlines())
  with Image.open(picture) as image:
    assert image.width > 1000
  assert first['error'].startswith('too little memory (RESOURCE_EXHAUSTED: Out of memory')
  assert 'more' not in first['error']
  assert second['error'] is None
  assert run(base) == 2
  pair = save(tmp_path / 'pair.json', 'ensemble', ensemble.SMALL['base'])
  assert run(pair, '--train') == 2
  assert 'trained apart' in capsys.readouterr().out


@pytest.mark.parametrize(
  ('words', 'said'),
  [
    (['movinet/a0-strem'], "did you mean 'movinet/a0-stream'?"),
    (['movinet/a0', '--picture=a.jpeg'], '.png'),
    (['movinet/a0', '--out=nowhere/a.jsonl'], '--out=nowhere/a.jsonl: there is no folder nowhere'),
    (['movinet/a0', '--picture=nowhere/a.png'], '--picture=nowhere/a.png: there is no folder'),
    (['movinet/a0', '--out=tests'], '--out=tests: Is a directory'),
    (['movinet/a0', '--out=a.png', '--picture=a.png'], 'a name of its own'),
    (['movinet/a0', '--picture=a.png', '--batch=8,2'], '1 among the values of --batch'),
    (['movinet/a0', '--picture=a.png', '--clip=8x64'], 'leave out --clip'),
    (['movinet/a0', '--cores=100000'], 'may use'),
  ],
)
def test_wrong_arguments(words, said, capsys):
  assert run(*words) == 2
  assert said in capsys.readouterr().err


@pytest.mark.parametrize(
  ('word', 'said'),
  [
    ('--chunk=0', "argument --chunk: '0' is not"),
    ('--batch=1,', "argument --batch: '' is not"),
    ('--dtype=floot32', "argument --dtype: unknown type 'floot32'"),
    ('--clip=8', "argument --clip: '8' is not"),
    ('--json=a.jsonl', 'argument --json: ignored'),
  ],
)
def test_values_that_are_none(word, said, capsys):
  with pytest.raises(SystemExit) as stop:
    run('movinet/a0', word)
  assert stop.value.code == 2
  assert said in capsys.readouterr().err


@pytest.mark.parametrize('name', ['kept.npz', 'found.json', 'notes.txt', 'metrics.jsonl'])
def test_no_file_of_something_else_is_written_over(name, base, tmp_path, capsys):
  content = {
    'kept.npz': b'PK\x03\x04\xff',
    'found.json': b'{"family": "movinet"}\n',
    'notes.txt': b'text',
    'metrics.jsonl': b'{"step": 1}\n{"step": 2}\n',
  }[name]
  file = tmp_path / name
  file.write_bytes(content)
  assert run(base, f'--out={file}') == 2
  assert f'--out={file} is there and holds something else' in capsys.readouterr().err
  # --json is a flag, and no file follows it.
  with pytest.raises(SystemExit):
    run(base, '--json', str(file))
  assert file.read_bytes() == content


def test_earlier_rows_are_replaced(tmp_path):
  file = tmp_path / 'a.jsonl'
  row = json.dumps(make_row('tvn/1').to_json({'device': 'x'}))
  for text in ('', row + '\n', row + '\n' + row):
    file.write_text(text)
    assert bench._holds_rows(file)
  file.write_text(row + '\n{}')
  assert not bench._holds_rows(file)


def test_an_ensemble_is_timed_over_all_turns_of_its_members():
  def count(name, frames):
    return timings._count_period(make_row(name, 'stream', frames=frames).case)

  assert [count('ensemble/a6-stream', frames) for frames in (1, 2, 3, 6)] == [6, 3, 2, 1]
  assert [count('ensemble/a7-stream', frames) for frames in (1, 8)] == [2, 1]
  assert count('movinet/a0-stream', 1) == 1
  assert timings._count_period(make_row('ensemble/a6').case) == 1
  assert ensemble.VARIANTS['a6-stream'].members[0].stride == 3


def find_printed(name, kind='clip', **changed):
  return {(one.latency.device, one.ms) for one in make_row(name, kind, **changed).printed}


def test_printed_times_are_of_the_same_input():
  assert ('NVIDIA V100', 3.7) in find_printed('movinet/a0-stream', 'stream')
  eight = find_printed('movinet/a0-stream', 'stream', frames=8)
  assert eight == find_printed('movinet/a0-stream', 'stream')
  assert find_printed('movinet/a0-stream', frames=50) == {('NVIDIA V100', 183)}
  assert {ms for _, ms in find_printed('tvn/1')} == {37, 10}
  for changed in ({'batch': 8}, {'frames': 49}, {'width': 171}):
    assert not find_printed('movinet/a0-stream', **changed)
  assert not find_printed('movinet/a0-stream', 'train')
  assert not find_printed('x3d/m', frames=50)  # of a size that is not printed


@pytest.mark.parametrize(
  ('name', 'own', 'native'), [('movinet/a0-stream', (8, 64, 64), 172), ('tvn/1', (16, 64, 64), 224)]
)
def test_printed_times_are_not_of_the_clips_of_a_trained_network(name, own, native, monkeypatch):
  """Whose input is what it was evaluated on, and not what papers time."""
  trained = dataclasses.replace(read_network(name), input=own, variables={})
  monkeypatch.setitem(globals(), 'read_named', lambda _: trained)
  kinds = ('stream', 'clip') if trained.has_stream else ('clip',)
  for kind in kinds:
    assert not find_printed(name, kind)
    frames = {} if kind == 'stream' else {'frames': trained.model.spec.frames}
    assert find_printed(name, kind, height=native, width=native, **frames)


def test_the_picture_is_of_whole_videos():
  """A stream's frames make a clip, and several views make an accuracy."""
  rows = [
    make_row('movinet/a0-stream', 'stream', 2.0),
    make_row('movinet/a0-stream', 'clip', 3.0),
    make_row('x3d/s', median_ms=90.0, frames=12),
    make_row('x3d/s', median_ms=80.0, batch=2),
    make_row('x3d/s', median_ms=60.0, dtype='bfloat16'),
    make_row('x3d/s', median_ms=50.0),
  ]
  a0, x3d = tradeoff.find_points(rows)
  assert (a0.clip_ms, a0.views, a0.result.dataset) == (100, 1, 'Kinetics-600')
  assert a0.result.accuracy == 72.05
  assert (x3d.views, x3d.result.accuracy) == (10, 72.9)
  assert x3d.clip_ms == pytest.approx(60)
  assert x3d.clip_gmacs == pytest.approx(1.96, abs=0.01)
  title = tradeoff._describe([a0, x3d], {'device': 'CPU', 'cores': 1, 'date': 'today'})
  for part in ('CPU, 1 core, today', 'one at a time', 'float32 and bfloat16', '1 frame a call'):
    assert part in title


def test_networks_are_compared_on_as_few_data_sets_as_possible():
  def choose(*names):
    found = tradeoff.choose_results([read_named(name) for name in names])
    return [one and one.dataset for one in found]

  assert choose('movinet/a0') == ['Kinetics-600']
  assert choose('movinet/a0', 'x3d/m') == ['Kinetics-400'] * 2
  assert choose('movinet/a0', 'movinet/a0-stream') == ['Kinetics-600'] * 2
  assert choose('x3d/xs', 'movinet/a0-stream') == ['Kinetics-400', 'Kinetics-600']
  assert choose('movinet/a3-printed') == [None]
  # Of these no source says how many views there were, or not of the native clip.
  assert choose('tsnet/auto-m', 'tvn/1') == [None, None]


def test_a_picture_needs_a_network_at_its_own_size(tmp_path):
  row = make_row('movinet/a0', height=8)
  with pytest.raises(ValueError, match='leave out --clip'):
    tradeoff.draw([row], str(tmp_path / 'a.png'), {'device': 'x', 'date': 'today'})


@pytest.mark.parametrize(
  ('peaks', 'found'),
  [((None, None), (60, 'program')), ((9, 70), (70, 'device')), ((99, 99), (60, 'program'))],
)
def test_memory_is_the_device_s_peak_where_this_row_raised_it(peaks, found, monkeypatch):
  memory, peaks = cost.Memory(arguments=10, outputs=20, temporaries=25, code=999), iter(peaks)
  monkeypatch.setitem(timings._MAKERS, 'clip', lambda *_: (lambda: None, None, 1.0, 5))
  monkeypatch.setattr(cost, 'count_memory', lambda _: memory)
  monkeypatch.setattr(timings, '_read_peak', lambda: next(peaks))
  timed = timings.measure(make_row('tvn/1').case, {}, secs=0.001)
  assert (timed.peak_bytes, timed.peak_from) == found


def test_names_in_a_picture_do_not_lie_on_one_another(tmp_path):
  names = [panels.Name(f'network {i}', 1 + i % 3 / 50, 70 + i / 10, 'k') for i in range(12)]
  upright = [panels.Name(f'line {i}', 1.5, None, 'k') for i in range(3)]
  with panels.open_figure(str(tmp_path / 'a.png'), (6, 4)) as (figure, axes):
    axes.scatter([one.x for one in names], [one.y for one in names])
    axes.set(xlim=(0, 2), ylim=(65, 75))
    panels.write_names(figure, [(axes, [*names, *upright])])
    boxes = [panels._find_box(text) for text in axes.texts]
    edge = axes.get_window_extent()
  assert len(boxes) == 15
  for i, box in enumerate(boxes):
    assert panels._overlap(box, edge) == pytest.approx(box.width * box.height, abs=1)
    assert all(panels._overlap(box, other) < 1 for other in boxes[:i])
