"""The step that a verb runs, compiled for devices that may not be here: no data is read."""

import dataclasses
import importlib.util
import math
import os
from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import topologies

from launch import plan as searches
from launch import trial
from launch.pods.topology import Topology
from launch.verbs import train
from movinet_jax.train import mesh
from nas import oneshot, spaces

VERBS = ('train', 'search', 'sweep')
_HOSTS = {1: (1, 1, 1), 4: (2, 2, 1), 8: (2, 4, 1)}  # chips of one, along each axis


@dataclasses.dataclass(frozen=True)
class Program:
  """A verb's step, and what it is given, as shapes that say where they lie.

  Attributes:
    step: compiled for its devices by `jax.jit`, with the state donated.
    state, batch: what it takes.
    place: the mesh.
    clip: what is taken of a video.
    clips: a step over all devices, for the weights.
    read: clips a step that the input must deliver: for the policy of a search, too.
    unit: numbers of clips that devices, micro-batches and candidates share evenly are its
      multiples.
  """

  step: object
  state: object
  batch: Mapping
  place: object
  clip: object
  clips: int
  read: int
  unit: int

  def compile(self):
    """As `jax.stages.Lowered.compile` does."""
    lowered = self.step.lower(self.state, self.batch)
    here = self.place.devices.flat[0] in jax.devices()
    return lowered.compile() if here else compile_for_others(lowered)


def compile_for_others(lowered):
  """Compiles for devices that are not here, past JAX's cache.

  It would keep such programs, too, but cannot read them back.
  """
  name = 'jax_persistent_cache_min_compile_time_secs'
  secs = getattr(jax.config, name)
  jax.config.update(name, math.inf)
  try:
    return lowered.compile()
  finally:
    jax.config.update(name, secs)


def make_program(
  verb: str, cfg: Mapping, num_classes: int, devices: Sequence | None = None
) -> Program:
  """The step of a config.

  Args:
    verb: 'train', or 'search'; of a sweep, what its trials run: `make_recipe` and 'train'.
    cfg: a whole config with the verb's DEFAULTS, which `check_config` has passed.
    devices: to run on; by default all there are.

  Raises:
    ValueError: for the first thing in the config that is wrong, also of the number of
      clips and devices.
  """
  make = {'train': _make_training, 'search': _make_search}[verb]
  return make(cfg, num_classes, devices)


def _make_training(cfg, num_classes, devices) -> Program:
  plan = train.make_plan(cfg, num_classes, devices)
  clips, place = cfg['batch_size'], plan.place
  parts = place.shape['data'] * cfg['train'].get('accumulate', 1)
  return Program(
    mesh.jit_step(plan.step, place),
    mesh.place_shapes(train.make_shapes(plan), place),
    _make_batch(cfg, num_classes, clips, plan.clips['train'], place),
    place,
    plan.clips['train'],
    clips,
    clips,
    parts,
  )


def _make_search(cfg, num_classes, devices) -> Program:
  plan = searches.make_plan(cfg, num_classes, devices)
  shapes = jax.eval_shape(lambda: oneshot.make_state(plan.net, plan.settings, cfg['optimizer']))
  sizes = cfg['batch_size'], cfg['policy_batch_size']
  batch, valid = (_make_batch(cfg, num_classes, size, plan.clip, plan.place) for size in sizes)
  return Program(
    mesh.jit_step(plan.step, plan.place),
    mesh.place_shapes(shapes, plan.place),
    {**batch, 'valid': valid},
    plan.place,
    plan.clip,
    sizes[0],
    sum(sizes),
    cfg['candidates'],
  )


def _make_batch(cfg, num_classes, clips, clip, place) -> dict:
  """A batch as the input pipeline makes it: see data.pipeline.Batches."""
  several = cfg['loss']['name'] == 'sigmoid'
  label = ((clips, num_classes), jnp.float32) if several else ((clips,), jnp.int32)
  arrays = {
    'video': ((clips, clip.frames, clip.size, clip.size, 3), jnp.uint8),
    'label': label,
    'mask': ((clips,), jnp.float32),
  }
  return {
    name: jax.ShapeDtypeStruct(shape, dtype, sharding=mesh.split(place, len(shape)))
    for name, (shape, dtype) in arrays.items()
  }


def resize(cfg: Mapping, clips: int) -> dict:
  """A config with another number of clips a step, and of a search's policy in proportion."""
  changed = {**cfg, 'batch_size': clips}
  if 'policy_batch_size' in cfg:
    candidates = cfg['candidates']
    share = cfg['policy_batch_size'] / cfg['batch_size'] * clips / candidates
    changed['policy_batch_size'] = candidates * max(1, round(share))
  return changed


def make_recipe(cfg: Mapping) -> dict:
  """The training config of a sweep's largest network.

  Of spaces that do not know it, of the network of all last choices, as their lists grow.
  """
  space = spaces.create(**cfg['space'])
  last = np.asarray(space.space.sizes) - 1
  choices = space.largest() if hasattr(space, 'largest') else last
  spec = space.decode(np.asarray(choices, np.int32))
  return trial.make_recipe(cfg, space.family, spec, {})


def find_devices(topology: Topology) -> list:
  """Devices of a TPU slice to compile for, of which none need be here.

  Raises:
    ValueError: there is no compiler for TPUs on this machine.
  """
  if importlib.util.find_spec('libtpu') is None:
    raise ValueError(
      f'programs for {topology.name} are compiled by libtpu, which is not installed: '
      "pip install 'jax[tpu]'"
    )
  # libtpu would ask Google's metadata server what this machine is, and be alone on it.
  for name, value in {
    'TPU_SKIP_MDS_QUERY': '1',
    'ALLOW_MULTIPLE_LIBTPU_LOAD': '1',
    'TPU_WORKER_HOSTNAMES': 'localhost',
  }.items():
    os.environ.setdefault(name, value)
  os.environ['TPU_ACCELERATOR_TYPE'] = topology.accelerator_type
  found = topologies.get_topology_desc(
    platform='tpu',
    topology_name=topology.name,
    chips_per_host_bounds=_HOSTS[topology.chips_per_host],
  ).devices
  if len(found) != topology.chips:
    raise ValueError(
      f'the compiler shows {len(found)} devices for the {topology.chips} chips of '
      f'{topology.name}, so what it says is not of them; v5e, v5p and v6e it knows'
    )
  return list(found)
