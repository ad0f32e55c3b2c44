"""Verbs take a trained network from wherever it lies, and say what is missing."""

import dataclasses
import json
import pathlib

import jax
import numpy as np
import pytest
from flax import traverse_util

import movinet_jax as mj
from launch.runs.trained import load_trained
from launch.runs.training import load_initial
from launch.verbs import convert
from movinet_jax.convert import (
  About,
  ConversionError,
  describe_network,
  read_about,
  write_archive,
)
from movinet_jax.convert.families import movinet as movinet_names
from movinet_jax.models import movinet, x3d

GOLDEN = pathlib.Path(__file__).parents[1] / 'golden' / 'movinet'
CHECKPOINT, SPEC = GOLDEN / 'ckpt_tiny_base_3d' / 'ckpt-1', GOLDEN / 'tiny.json'
NAMES = tuple(f'class of {number}' for number in 'zyxwvutsrqpo')


@pytest.fixture
def labels(tmp_path):
  path = tmp_path / 'labels.txt'
  path.write_text('\n'.join(NAMES) + '\n')
  return path


def test_a_published_checkpoint_is_used_as_it_is(labels):
  run = load_trained(str(CHECKPOINT), network=str(SPEC), labels=str(labels))
  assert run.labels == NAMES
  spec = run.model.spec
  assert (run.clip.frames, run.clip.size) == (spec.frames, spec.resolution)
  assert run.clip.fps == movinet.NATIVE_FPS / spec.frame_stride
  with np.load(GOLDEN / 'tiny_base_3d.npz') as golden:
    logits, _ = jax.jit(run.model.apply)(run.complete(), golden['input'])
    np.testing.assert_allclose(logits, golden['logits'], atol=1e-4)


def test_an_archive_of_it_says_all_that_was_said(labels, tmp_path, capsys):
  out = tmp_path / 'tiny.npz'
  words = ['movinet', f'--spec={SPEC}', f'--weights={CHECKPOINT}', f'--out={out}']
  assert convert.main([*words, f'--labels={labels}']) == 0
  assert '12 classes (class of z, …)' in capsys.readouterr().out
  found = load_trained(str(out))
  wanted = load_trained(str(CHECKPOINT), network=str(SPEC), labels=str(labels))
  assert (found.labels, found.clip) == (wanted.labels, wanted.clip)
  assert found.model == wanted.model
  jax.tree.map(np.testing.assert_array_equal, found.variables, wanted.variables)


def test_an_archive_of_a_run_is_the_run(trained, tmp_path):
  out = tmp_path / 'mine.npz'
  assert convert.main([f'--weights={trained}', f'--out={out}']) == 0
  found, wanted = load_trained(str(out)), load_trained(str(trained))
  assert (found.labels, found.clip, found.model) == (wanted.labels, wanted.clip, wanted.model)
  jax.tree.map(np.testing.assert_array_equal, found.variables, wanted.complete())


def test_classes_of_a_release_have_their_names(tmp_path):
  model = mj.create('movinet/a0')
  shapes = jax.eval_shape(lambda: mj.init(model, jax.random.key(0), (1, 1, 32, 32, 3)))
  names = movinet_names.make_names(list(traverse_util.flatten_dict(shapes)))
  weights = tmp_path / 'bare.npz'
  leaves = traverse_util.flatten_dict(shapes).items()
  np.savez(weights, **{names[path]: np.zeros(x.shape, x.dtype) for path, x in leaves})
  run = load_trained(str(weights), network='movinet/a0')
  assert (run.labels[0], run.labels[-1]) == ('abseiling', 'zumba')
  assert 'juggling balls' in run.labels


def test_as_many_classes_as_a_data_set_are_not_that_data_set(tmp_path):
  """Files of our own paths are anybody's, whose classes have names that only they know."""
  model = mj.create('movinet', 600, spec=movinet.SMALL['base'])
  weights, spec = tmp_path / 'bare.npz', tmp_path / 'spec.json'
  mj.models.save_spec(spec, 'movinet', model.spec)
  variables = jax.jit(lambda: mj.init(model, jax.random.key(0), (1, 1, 32, 32, 3)))()
  np.savez(weights, **{'/'.join(k): v for k, v in flatten(variables)})
  with pytest.raises(ValueError, match=r'600 classes.*--labels=FILE'):
    load_trained(str(weights), network=str(spec))
  own = tuple(f'own {number}' for number in range(600))
  found = load_initial(model, 0, str(weights), own)
  jax.tree.map(np.testing.assert_array_equal, found, variables)


def flatten(tree):
  return [
    (tuple(key.key for key in path), leaf)
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
  ]


@pytest.fixture
def bare(tmp_path):
  """A file of arrays that does not say which network it holds."""
  path = tmp_path / 'bare.npz'
  with np.load(GOLDEN / 'tiny_base_3d.npz') as golden:
    np.savez(path, **{key: golden[key] for key in golden if key.startswith('var/')})
  return path


def test_what_is_missing_is_asked_for(bare, trained, labels, tmp_path):
  def load(path, **given):
    return load_trained(str(path), **given)

  with pytest.raises(ValueError, match=r'bare\.npz.*--network=NAME, such as movinet/a2-stream'):
    load(bare)
  with pytest.raises(ValueError, match=r'12 classes.*--labels=FILE.*kinetics600'):
    load(bare, network=str(SPEC))
  labels.write_text('one\ntwo\n')
  with pytest.raises(ValueError, match=r'labels\.txt has 2 names.*12 classes'):
    load(bare, network=str(SPEC), labels=str(labels))
  with pytest.raises(ValueError, match=r"unknown network 'movinet/a9'"):
    load(bare, network='movinet/a9')
  with pytest.raises(ValueError, match=r"'a0-stream'; did you mean 'movinet/a0-stream'"):
    load(bare, network='a0-stream')
  with pytest.raises(ValueError, match=r'--multi-label is for files of weights'):
    load(trained, multi_label=True)
  with pytest.raises(ConversionError, match='not in the file'):
    load(bare, network='movinet/a0')
  with pytest.raises(ValueError, match=r'--network=movinet/a0 is for files of weights'):
    load(trained, network='movinet/a0')
  with pytest.raises(ValueError, match=r'--which=best is for the workdir'):
    load(bare, which='best')
  with pytest.raises(FileNotFoundError, match='nowhere'):
    load(tmp_path / 'nowhere')


def test_an_archive_needs_no_network_and_a_damaged_one_says_so(trained, tmp_path):
  out = tmp_path / 'mine.npz'
  convert.main([f'--weights={trained}', f'--out={out}'])
  with pytest.raises(ValueError, match=r'says itself which network it holds, movinet'):
    load_trained(str(out), network='movinet/a0')
  with np.load(out) as file:
    arrays = dict(file)
  for text, reason in (('{', 'Expecting'), ('{"version": 2}', 'version 2')):
    np.savez(out, **{**arrays, 'about': np.array(text)})
    with pytest.raises(ConversionError, match=rf'mine\.npz does not say.*{reason}'):
      load_trained(str(out))


def test_a_network_without_a_trained_classifier_is_none(bare, labels):
  with np.load(bare) as file:
    arrays = {key: file[key] for key in file if '_classifier' not in key}
  np.savez(bare, **arrays)
  with pytest.raises(ConversionError, match=r'lacks 2 variables.*classifier.*--config\.init'):
    load_trained(str(bare), network=str(SPEC))


@pytest.mark.parametrize('options', [[], ['--num-classes=7']])
def test_what_a_file_lacked_does_not_become_trained_by_converting_it(
  bare, tmp_path, capsys, options
):
  with np.load(bare) as file:
    np.savez(bare, **{key: file[key] for key in file if options or '_classifier' not in key})
  out = tmp_path / 'tiny.npz'
  words = [f'--network={SPEC}', f'--weights={bare}', *options]
  assert convert.main([*words, f'--out={out}']) == 0
  said = capsys.readouterr().out
  assert '2 of its variables were not in the file' in said
  assert 'without names' in said
  for names in ({}, {'labels': 'charades'}):
    with pytest.raises(ValueError, match=r'lacks 2 variables.*classifier|has 157 names'):
      load_trained(str(out), **names)
  model = mj.create('movinet', 3, spec=str(SPEC))
  found = load_initial(model, 0, str(out), ('a', 'b', 'c'))
  assert found['params']['classifier']['bias'].shape == (3,)
  assert 'missing: 2' in capsys.readouterr().out
  with pytest.raises(ConversionError, match=r'lacks 2 variables.*--to=tensorflow'):
    convert.main([*words, f'--out={tmp_path / "tf"}', '--to=tensorflow'])


def test_several_labels_are_said_or_known_of_a_data_set(bare, labels, tmp_path):
  how = {'network': str(SPEC), 'labels': str(labels)}
  assert not load_trained(str(bare), **how).multi_label
  assert load_trained(str(bare), **how, multi_label=True).multi_label
  out = tmp_path / 'several.npz'
  words = [f'--network={SPEC}', f'--weights={bare}', f'--labels={labels}', '--multi-label']
  assert convert.main([*words, f'--out={out}']) == 0
  assert load_trained(str(out)).multi_label
  with pytest.raises(ValueError, match=r'several\.npz says itself.*leave out --multi-label'):
    load_trained(str(out), multi_label=True)


def test_an_archive_keeps_what_a_network_computes_in(tmp_path):
  model = mj.create('movinet', 2, spec=movinet.SMALL['base'], dtype='bfloat16')
  variables = jax.jit(lambda: mj.init(model, jax.random.key(0), (1, 1, 32, 32, 3)))()
  about = About(**describe_network(model), labels=('one', 'two'))
  write_archive(tmp_path / 'half.npz', variables, about)
  run = load_trained(str(tmp_path / 'half.npz'))
  assert run.model == model
  # What it sees is not said, so it is the native input.
  assert (run.clip.frames, run.clip.size) == (model.spec.frames, model.spec.resolution)


def test_a_training_begins_with_one_network(trained, tmp_path):
  path, whole = tmp_path / 'own.json', tmp_path / 'whole.npz'
  path.write_text(json.dumps({'members': [{'checkpoint': str(trained)}] * 2}))
  model = load_trained(str(trained)).model
  convert.main([f'--weights={path}', f'--out={whole}'])
  with pytest.raises(ValueError, match=r'own\.json is JSON.*name the checkpoint of that member'):
    load_initial(model, 0, str(path))
  with pytest.raises(ValueError, match=r'whole\.npz holds an ensemble'):
    load_initial(model, 0, str(whole))
  other = mj.create('x3d', 2, spec=x3d.SMALL['base'])
  convert.main([f'--weights={trained}', f'--out={tmp_path / "one.npz"}'])
  with pytest.raises(ConversionError, match=r'one\.npz holds movinet.* trained is a x3d'):
    load_initial(other, 0, str(tmp_path / 'one.npz'))


def test_trained_networks_are_an_ensemble(trained, tmp_path):
  """Of a run and a file, whose paths begin where the ensemble's file lies."""
  convert.main([f'--weights={trained}', f'--out={tmp_path / "mine.npz"}'])
  path = tmp_path / 'own.json'
  parts = [{'checkpoint': str(trained), 'stride': 2}, {'checkpoint': 'mine.npz', 'stride': 2}]
  clip = {'frames': 8, 'size': 16, 'stride': 1}
  path.write_text(json.dumps({'members': [parts[0], {**parts[1], 'offset': 1}], 'clip': clip}))
  run, one = load_trained(str(path)), load_trained(str(trained))
  assert (run.clip.frames, run.clip.size) == (2 * one.clip.frames, one.clip.size)
  assert list(run.members) == ['member0', 'member1']
  clip = jax.random.uniform(jax.random.key(0), (1, 8, 16, 16, 3))
  logits, _ = jax.jit(run.model.apply)(run.complete(), clip)
  apply = jax.jit(one.model.apply)  # both members are this network
  wanted = [apply(one.complete(), clip[:, offset::2])[0] for offset in (0, 1)]
  np.testing.assert_allclose(logits, sum(wanted) / 2, atol=1e-5)

  # One file of it is the same network.
  convert.main([f'--weights={path}', f'--out={tmp_path / "whole.npz"}'])
  whole = load_trained(str(tmp_path / 'whole.npz'))
  assert read_about(tmp_path / 'whole.npz').family == 'ensemble'
  assert (whole.clip, whole.labels) == (run.clip, run.labels)
  assert whole.model == run.model
  jax.tree.map(np.testing.assert_array_equal, whole.variables, run.variables)
  assert [member.clip.frames for member in whole.members.values()] == [one.clip.frames] * 2


def test_members_that_do_not_fit_are_named(trained, tmp_path):
  path = tmp_path / 'own.json'

  def load(*parts, **more):
    path.write_text(json.dumps({'members': parts, **more}))
    return load_trained(str(path))

  own = {'checkpoint': str(trained)}
  with pytest.raises(ValueError, match=r'different rates.*stride=1, stride=0\.5'):
    load(own, {**own, 'stride': 2})
  clip = dataclasses.asdict(load_trained(str(trained)).clip)
  assert load(own, {**own, 'stride': 2}, clip=clip).clip.frames == clip['frames']
  with pytest.raises(ValueError, match=r'own\.json is no file of an ensemble.*checkpiont'):
    load({'checkpiont': str(trained)})
  with pytest.raises(FileNotFoundError, match='nowhere'):
    load({'checkpoint': 'nowhere'})
  with pytest.raises(ValueError, match=r'own\.json is an ensemble, and a member is a network'):
    load({'checkpoint': 'own.json'})
  with pytest.raises(ValueError, match=r'members.*one value or more'):
    load()
  with pytest.raises(FileNotFoundError, match='No checkpoint 999'):
    load({'checkpoint': str(trained), 'which': 999})


def test_a_members_options_are_those_of_the_command_line(bare, labels, tmp_path):
  """Names of networks and lists are names, and all else are paths from where the file lies."""
  home = tmp_path / 'there'
  home.mkdir()
  for path in (SPEC, bare, labels):
    (home / path.name).write_bytes(path.read_bytes())
  part = {'checkpoint': bare.name, 'network': SPEC.name, 'labels': labels.name}
  path = home / 'pair.json'
  path.write_text(json.dumps({'members': [part, {**part, 'multi_label': False}]}))
  assert load_trained(str(path)).labels == NAMES
  other = {**part, 'labels': 'kinetics600'}
  path.write_text(json.dumps({'members': [part, other]}))
  with pytest.raises(ValueError, match='kinetics600 has 600 names'):
    load_trained(str(path))
  path.write_text(json.dumps({'members': [part, {**part, 'multi_label': True}]}))
  with pytest.raises(ValueError, match=r'member1.*several labels a video and not one label'):
    load_trained(str(path))
