"""Folders of exported networks: what they say, what they refuse, and what runs through them."""

import dataclasses
import json
import shutil

import jax
import numpy as np
import pytest

from movinet_jax import convert, data, export, models, timing
from movinet_jax.export import formats, parity, weights
from movinet_jax.export.graph import add_node
from movinet_jax.models import ensemble
from movinet_jax.names import check_name

SIZE, NAMES = (16, 16), ('jump', 'run', 'a <b>', 'été', 'wave')
FORMATS = ('onnx', 'savedmodel', 'stablehlo', 'tflite')


def make(kind='stream-3d', family='movinet', **options):
  spec = models.find_family(family).SMALL[kind]
  model = models.create(family, len(NAMES), spec=spec)
  return export.plan(model, timing.draw_weights(model), SIZE, **options)


def describe(source):
  clip = data.EvalClip(frames=4, size=16, stride=2)
  return convert.About(
    **convert.describe_network(source.model),
    labels=NAMES,
    preprocessing=dataclasses.asdict(clip),
  )


def write(out, source, names=FORMATS, **options):
  return export.write(out, source, describe(source), {'version': 7}, names, **options)


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  out = tmp_path_factory.mktemp('exported') / 'mine'
  write(out, make())
  return out


def test_a_folder_says_all_that_a_client_needs(folder):
  found = json.loads((folder / 'model.json').read_text())
  assert (found['frames'], found['batch'], found['classes']) == (1, 1, 5)
  assert found['preprocessing']['stride'] == 2
  assert found['checkpoint'] == {'version': 7}
  assert {'jax', 'flax', 'onnx', 'onnxruntime', 'ai-edge-litert'} <= found['versions'].keys()
  for file in found['files'].values():
    assert file['inputs'].keys() == {'image', *file['states']}
    assert file['outputs'].keys() == {'logits', *file['states'].values()}
    assert 0 < file['parity']['logits'] < file['parity']['bound'] == 1e-5
  assert (folder / 'labels.txt').read_text(encoding='utf-8') == '\n'.join(NAMES) + '\n'


def test_the_rule_for_clients_is_all_that_is_needed(folder):
  """Zeros when a video begins, then every output goes to the input of its name."""
  import onnxruntime

  about = json.loads((folder / 'model.json').read_text())['files']['model.onnx']
  session = onnxruntime.InferenceSession(folder / 'model.onnx')
  sizes = {
    name: [1 if n is None else n for n in one['shape']] for name, one in about['inputs'].items()
  }
  states = {name: np.zeros(sizes[name], np.float32) for name in about['states']}
  source, names = make(), list(about['outputs'])
  step, state = jax.jit(source.make_step()), source.begin()
  for number in range(3):
    frame = np.random.default_rng(number).uniform(size=(1, *SIZE, 3)).astype(np.float32)
    found = dict(zip(names, session.run(names, {'image': frame, **states}), strict=True))
    states = {name: found[after] for name, after in about['states'].items()}
    wanted, state = step(frame[None], state)
    np.testing.assert_allclose(found['logits'], wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('name', FORMATS)
def test_a_file_stands_in_for_its_network(folder, name):
  network = export.Network(export.read(folder / formats.load(name).FILE))
  source = make()
  video = np.random.default_rng(1).uniform(size=(3, 4, *SIZE, 3)).astype(np.float32)
  wanted, _ = jax.jit(source.make_step())(video, source.begin_videos(3))
  run = jax.jit(lambda video, state: network.apply({}, video, state))
  whole, _ = run(video, network.init_state(3))
  np.testing.assert_allclose(whole, wanted, rtol=1e-4, atol=1e-5)
  _, state = run(video[:, :2], network.init_state(3))
  parts, _ = run(video[:, 2:], state)
  np.testing.assert_allclose(parts, wanted, rtol=1e-4, atol=1e-5)
  assert (network.num_classes, network.spec.causal, network.spec.frames) == (5, True, 4)


def test_streams_through_one_file_are_apart(folder):
  for name in FORMATS:
    first = export.read(folder / formats.load(name).FILE).make_session()
    frame = np.full((1, 1, *SIZE, 3), 0.7, np.float32)
    alone = [first(frame), first(frame)]
    second = first.fork()
    np.testing.assert_array_equal(second(frame), alone[0])
    first(0 * frame)
    np.testing.assert_array_equal(second(frame), alone[1])


def test_several_videos_a_call(tmp_path):
  source = make(batch=2)
  assert write(tmp_path / 'two', source, ['tflite']).batch == 2
  network = export.Network(export.read(tmp_path / 'two' / 'model.tflite'))
  video = np.random.default_rng(1).uniform(size=(3, 2, *SIZE, 3)).astype(np.float32)
  wanted, _ = jax.jit(source.make_step())(video, source.begin_videos(3))
  found, _ = network.apply({}, video)  # two and one, filled up
  np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)


def test_any_number_of_videos_where_a_format_says_it(tmp_path):
  manifest = write(tmp_path / 'any', make(batch=None), ('onnx', 'stablehlo'))
  for file in manifest.files.values():
    assert {one['shape'][0] for one in file.outputs.values()} == {None}
  with pytest.raises(export.ExportError, match='2 frames a call of any number'):
    write(tmp_path / 'two', make(frames=2, batch=None), ('onnx',))
  clip = make('base', 'tvn', batch=None)
  with pytest.raises(export.ExportError, match=r'number of videos.*--batch'):
    write(tmp_path / 'clip', clip, ('stablehlo',))


def test_several_frames_a_call_are_so_many_calls_of_one(tmp_path):
  one, four = make(), make(frames=4)
  manifest = write(tmp_path / 'four', four, ('onnx', 'tflite'))
  assert (manifest.frames, manifest.files['model.tflite'].parity.calls) == (4, 8)
  session = export.read(tmp_path / 'four' / 'model.tflite').make_session()
  video = np.random.default_rng(1).uniform(size=(1, 4, *SIZE, 3)).astype(np.float32)
  step, state = jax.jit(one.make_step()), one.begin()
  for number in range(4):
    wanted, state = step(video[:, number : number + 1], state)
  np.testing.assert_allclose(session(video), wanted, rtol=1e-4, atol=1e-5)


@pytest.fixture(scope='module')
def wide(tmp_path_factory):
  """A network with kernels that are worth storing in fewer bits, and its files in float32."""
  small = models.find_family('movinet').SMALL['stream-3d']
  spec = dataclasses.replace(small, project=64, head=128)
  model = models.create('movinet', len(NAMES), spec=spec)
  source = export.plan(model, timing.draw_weights(model), SIZE)
  return source, write(tmp_path_factory.mktemp('wide') / 'plain', source)


@pytest.mark.parametrize('kind', weights.KINDS[1:])
def test_weights_of_fewer_bits_are_smaller_and_near(tmp_path, wide, kind):
  names = [name for name in FORMATS if kind in formats.load(name).WEIGHTS]
  source, plain = wide
  less = write(tmp_path / 'less', source, names, weights=kind)
  for name, file in less.files.items():
    assert file.bytes < plain.files[name].bytes
    assert plain.files[name].parity.logits < file.parity.logits  # something was rounded
    assert file.parity.correlation > 0.99
  if kind == 'float16':
    assert max(file.parity.logits for file in less.files.values()) < 5e-3


def test_a_file_that_differs_is_not_written(tmp_path, monkeypatch):
  source, form = make(), formats.load('onnx')
  emit = form.emit

  def forget(graph, *given):
    """A planted bug: one state begins anew with every call."""
    name = next(name for name in graph.outputs if name.endswith('se_mean_next'))
    graph = dataclasses.replace(graph, outputs={**graph.outputs})
    graph.outputs[name] = add_node('mul', graph.outputs[name], np.float32(0.99))
    return emit(graph, *given)

  monkeypatch.setattr(form, 'emit', forget)
  with pytest.raises(export.ExportError, match=r'model.onnx .* after 8 calls.*bound 1.0e-05'):
    write(tmp_path / 'bad', source, ('onnx',))
  assert not list(tmp_path.iterdir())


class Forgetful:
  """A session that begins a video with every call: a planted bug."""

  def __init__(self, session):
    self.session, self.batch = session, session.batch

  def __call__(self, video):
    self.session.reset()
    return self.session(video)

  def read_states(self):
    return self.session.read_states()


def test_forgotten_states_are_found_in_files_of_any_weights(tmp_path):
  source, form = make('stream-2plus1d'), formats.load('onnx')
  reference = parity.Reference(source)
  for kind in form.WEIGHTS:
    interface = form.write(source, tmp_path / kind, kind)
    session = form.make_session(tmp_path / kind, interface, reference.batch)
    assert reference.compare(session, kind).holds
    assert not reference.compare(Forgetful(session), kind).holds


def test_names_that_are_no_line_are_refused(tmp_path):
  source = make()
  about = dataclasses.replace(describe(source), labels=('a', 'b', 'c\r', 'd\ne', 'f'))
  with pytest.raises(export.ExportError, match=r"class 3 is called 'd\\ne'"):
    export.write(tmp_path / 'bad', source, about, {}, ['onnx'])
  about = dataclasses.replace(about, labels=('a', 'b', 'c\r', 'd', ''))
  export.write(tmp_path / 'good', source, about, {}, ['onnx'])
  assert export.read(tmp_path / 'good').labels == about.labels


def test_one_class_has_no_correlation_and_json_no_nan(tmp_path):
  model = models.create('movinet', 1, spec=models.find_family('movinet').SMALL['base'])
  source = export.plan(model, timing.draw_weights(model), SIZE, frames=2)
  about = convert.About(
    **convert.describe_network(model), labels=('a',), preprocessing={'frames': 2, 'size': 16}
  )
  for kind in ('float32', 'int8'):
    export.write(tmp_path / kind, source, about, {}, ['onnx'], kind)
  assert 'NaN' not in (tmp_path / 'int8' / 'model.json').read_text()


def test_any_ensemble_is_a_stablehlo(tmp_path):
  small = models.find_family('movinet').SMALL['stream-3d']
  members = ensemble.Member(small), ensemble.Member(small, offset=1)
  late = models.create('ensemble', len(NAMES), spec=ensemble.Spec(members, 4, 16, 1))
  weights = timing.draw_weights(late)
  with pytest.raises(export.ExportError, match='only stablehlo'):
    export.plan(late, weights, SIZE)
  write(tmp_path / 'late', export.plan(late, weights, SIZE, graph=False), ['stablehlo'])


def test_what_rounding_alone_does_raises_the_bound():
  reference = parity.Reference(make())
  assert 0 < reference._measure_rounding() < 1e-5


def test_a_damaged_folder_is_refused(folder, tmp_path):
  def copy(name):
    return shutil.copytree(folder, tmp_path / name)

  with pytest.raises(FileNotFoundError, match='no-such'):
    export.read(folder / 'no-such.onnx')
  with pytest.raises(ValueError, match='several files'):
    export.read(folder)
  bad = copy('flipped') / 'model.onnx'
  content = bytearray(bad.read_bytes())
  content[len(content) // 2] ^= 1
  bad.write_bytes(content)
  with pytest.raises(ValueError, match=r'model.onnx is not the file that model.json'):
    export.read(bad)
  alone = copy('alone')
  (alone / 'model.json').unlink()
  with pytest.raises(FileNotFoundError, match=r'model.json'):
    export.read(alone / 'model.tflite')
  short = copy('short')
  (short / 'labels.txt').write_text('one\n')
  with pytest.raises(ValueError, match=r'1 lines, and the network 5 classes'):
    export.read(short / 'model.tflite')
  later = copy('later')
  text = (later / 'model.json').read_text().replace('"format_version": 1', '"format_version": 2')
  (later / 'model.json').write_text(text)
  with pytest.raises(ValueError, match=r'format_version is 2'):
    export.read(later / 'model.tflite')
  with pytest.raises(FileExistsError, match='exists already'):
    write(folder, make())


def test_frames_of_another_size_are_refused(folder):
  session = export.read(folder / 'model.onnx').make_session()
  with pytest.raises(ValueError, match=r'\(1, 1, 8, 8, 3\).*16, 16, 3'):
    session(np.zeros((1, 1, 8, 8, 3), np.float32))
  clip = export.Network(export.read(folder / 'model.onnx'))
  with pytest.raises(ValueError, match='of 1 videos'):
    session(np.zeros((1, 2, *SIZE, 3), np.float32))  # which are not two videos
  with pytest.raises(ValueError, match='cannot be trained'):
    clip.apply({}, np.zeros((1, 1, *SIZE, 3)), train=True)


def test_turns_decide_how_many_frames_a_call_sees(tmp_path):
  assert make('stream', 'ensemble').frames == 2
  with pytest.raises(export.ExportError, match='same every 2 frames, and 3'):
    make('stream', 'ensemble', frames=3)
  network = write(tmp_path / 'pair', make('stream', 'ensemble'), ('tflite',))
  found = export.Network(export.read(tmp_path / 'pair' / 'model.tflite'))
  with pytest.raises(ValueError, match='2 frames a call: 3'):
    found.apply({}, np.zeros((1, 3, *SIZE, 3), np.float32))
  assert network.frames == 2


def test_names_of_formats_are_told():
  with pytest.raises(ValueError, match='tflite'):
    check_name('tflight', formats.list_formats(), 'format')
