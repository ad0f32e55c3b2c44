"""Who may import whom. Walks the source, so nothing is imported to find out."""

import ast
import pathlib
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]
PACKAGES = ('movinet_jax', 'nas', 'configs', 'launch')

# What a module whose name begins so may import of this project ('' is all of it); the
# longest beginning counts. Modules of one room may import each other.
INSIDE = {
  'launch': ('',),
  'configs': (),
  'nas': ('movinet_jax', 'nas'),
  'nas.space': (),
  'nas.history': (),
  'nas.candidate': (),
  # Neither imports the other: an algorithm knows decisions, a space knows networks.
  'nas.algorithms': (
    *('movinet_jax.registry', 'movinet_jax.schema'),
    *('nas.space', 'nas.history', 'nas.candidate'),
  ),
  'nas.spaces': (
    *('movinet_jax', 'nas.space', 'nas.cost', 'nas.candidate'),
    *('nas.runtime', 'nas.machine'),
  ),
  'movinet_jax': ('movinet_jax',),
  'movinet_jax.names': (),
  'movinet_jax.registry': ('movinet_jax.names',),
  'movinet_jax.signals': (),
  'movinet_jax.cores': (),
  'movinet_jax.inference': (),
  'movinet_jax.disks': (),
  'movinet_jax.paths': (),
  'movinet_jax.schema': ('movinet_jax.names', 'movinet_jax.paths'),
  'movinet_jax.spec': ('movinet_jax.names', 'movinet_jax.schema'),
  'movinet_jax.ops': ('movinet_jax.names',),
  'movinet_jax.layers': (
    'movinet_jax.ops',
    'movinet_jax.names',
    'movinet_jax.schema',
  ),
  'movinet_jax.models': (
    'movinet_jax.layers',
    'movinet_jax.ops',
    'movinet_jax.names',
    'movinet_jax.paths',
    'movinet_jax.registry',
    'movinet_jax.schema',
    'movinet_jax.spec',
  ),
  'movinet_jax.data': (
    *('movinet_jax.names', 'movinet_jax.registry'),
    *('movinet_jax.schema', 'movinet_jax.signals', 'movinet_jax.cores'),
  ),
  'movinet_jax.train': (
    *('movinet_jax.names', 'movinet_jax.paths', 'movinet_jax.schema'),
    *('movinet_jax.signals', 'movinet_jax.inference'),
  ),
}
# What they may import of other projects, where that is limited.
OUTSIDE = {
  'configs': {'ml_collections'},
  'movinet_jax.train': {
    *('jax', 'flax', 'optax', 'orbax', 'clu', 'numpy'),
    *('matplotlib', 'tqdm'),  # pictures and progress bars
  },
}
# Who alone may import these, and whether only inside functions.
RESERVED = {
  'tensorflow': (('movinet_jax.convert', 'movinet_jax.export'), True),
  'torch': (('movinet_jax.convert',), True),
  **dict.fromkeys(
    ('onnx', 'onnxruntime', 'ai_edge_litert', 'ai_edge_quantizer', 'litert_converter'),
    (('movinet_jax.export.formats',), True),
  ),
}
FORBIDDEN = {'movinet_jax.data': {'jax', 'jaxlib', 'flax', 'optax', 'orbax'}}
# A family made of other families.
NEIGHBOURS = {
  ('movinet_jax.models.ensemble', f'movinet_jax.models.{family}') for family in ('movinet', 'x3d')
}


def find_imports(root):
  """(importer, imported, inside a function) for every import below a folder."""
  files = {
    _module_name(path.relative_to(root)): path
    for package in PACKAGES
    for path in sorted((root / package).rglob('*.py'))
  }
  found = []
  for module, path in files.items():
    tree = ast.parse(path.read_text(), str(path))
    deferred = {
      id(node)
      for function in ast.walk(tree)
      if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
      for node in ast.walk(function)
    }
    for node in ast.walk(tree):
      for target in _targets(node, module, path, files):
        found.append((module, target, id(node) in deferred))
  return found


def _module_name(path):
  return '.'.join(path.with_suffix('').parts).removesuffix('.__init__')


def _targets(node, module, path, files):
  if isinstance(node, ast.Import):
    return [alias.name for alias in node.names]
  if not isinstance(node, ast.ImportFrom):
    return []
  base = node.module or ''
  if node.level:
    up = node.level - (path.name == '__init__.py')
    parents = module.split('.')[: len(module.split('.')) - up]
    base = '.'.join([*parents, base] if base else parents)
  # `from package import file` imports the file, not what the package says of itself.
  names = [f'{base}.{alias.name}' for alias in node.names]
  return [name if name in files else base for name in names]


def is_in(module, room):
  return room == '' or module == room or module.startswith(f'{room}.')


def find_room(module, table):
  """The longest key of the table that the module's name begins with."""
  return max((r for r in table if is_in(module, r)), key=len, default=None)


def find_violations(root):
  """One line for each import that the table does not allow."""
  violations = []
  imports = find_imports(root)
  for importer, imported, deferred in imports:
    top = imported.partition('.')[0]
    check = _check_inside if top in PACKAGES else _check_outside
    if reason := check(importer, imported, top, deferred):
      violations.append(f'{importer} imports {imported}: {reason}')
  return violations + [f'cycle: {" -> ".join(c)}' for c in find_cycles(imports)]


def _check_inside(importer, imported, top, deferred):
  room = find_room(importer, INSIDE)
  if not any(is_in(imported, allowed) for allowed in (room, *INSIDE[room])):
    return f'{room} may import {INSIDE[room] or "nothing of this project"}'
  if imported == 'movinet_jax' and importer.startswith('movinet_jax.'):
    return 'a part does not import the whole'
  family = 'movinet_jax.models.'
  strangers = importer.startswith(family) and imported.startswith(family)
  if strangers and (importer, imported) not in NEIGHBOURS:
    return 'families do not import each other'
  return None


def _check_outside(importer, imported, top, deferred):
  if top in sys.stdlib_module_names:
    return None
  rooms, late = RESERVED.get(top, (('',), False))
  if not any(is_in(importer, room) for room in rooms):
    return f'only {" and ".join(rooms)} may'
  if late and not deferred:
    return 'only inside a function'
  if (limited := find_room(importer, OUTSIDE)) and top not in OUTSIDE[limited]:
    return f'{limited} may import {sorted(OUTSIDE[limited])}'
  if (cut := find_room(importer, FORBIDDEN)) and top in FORBIDDEN[cut]:
    return f'{cut} must not'
  return None


def make_room(module):
  """The room of a module: movinet_jax.train of movinet_jax.train.loop."""
  parts = module.split('.')
  return '.'.join(parts[: 2 if parts[0] in ('movinet_jax', 'nas') else 1])


def find_cycles(imports):
  """Cycles between rooms. The front of a package, which gathers its rooms, is none."""
  edges = {}
  for importer, imported, _ in imports:
    a, b = make_room(importer), make_room(imported)
    if b.partition('.')[0] in PACKAGES and a != b and a not in PACKAGES:
      edges.setdefault(a, set()).add(b)
  cycles = []

  def walk(room, path):
    if room in path:
      cycle = path[path.index(room) :]
      if cycle[0] == min(cycle):  # each once
        cycles.append([*cycle, room])
      return
    for following in sorted(edges.get(room, ())):
      walk(following, [*path, room])

  for room in sorted(edges):
    walk(room, [])
  return [list(c) for c in dict.fromkeys(map(tuple, cycles))]


def test_imports_point_the_right_way():
  assert find_violations(ROOT) == []


def test_the_walk_sees_the_source():
  found = {(a, b) for a, b, _ in find_imports(ROOT)}
  assert ('movinet_jax.ops.pool', 'movinet_jax.ops.depthwise') in found
  assert ('movinet_jax.models.movinet', 'movinet_jax.layers') in found
  assert ('movinet_jax.models.ensemble', 'movinet_jax.models.movinet') in found
  assert ('movinet_jax.convert.read', 'tensorflow') in found


@pytest.mark.parametrize(
  ('path', 'source', 'message'),
  [
    ('movinet_jax/ops/a.py', 'from movinet_jax import layers', 'movinet_jax.ops may'),
    ('movinet_jax/ops/a.py', 'from .. import layers', 'movinet_jax.ops may'),
    ('movinet_jax/layers/a.py', 'import movinet_jax.models.x', 'layers may'),
    ('movinet_jax/models/a.py', 'from movinet_jax.models import b', 'each other'),
    ('movinet_jax/models/a.py', 'from . import b', 'each other'),
    ('movinet_jax/models/ensemble.py', 'from . import b', 'each other'),
    ('movinet_jax/models/a.py', 'import movinet_jax.train', 'models may'),
    ('movinet_jax/train/a.py', 'from movinet_jax.data import x', 'train may'),
    ('movinet_jax/train/a.py', 'from movinet_jax import models', 'train may'),
    (
      'movinet_jax/train/a.py',
      'def f():\n  from movinet_jax import layers',
      'train may',
    ),
    ('movinet_jax/train/a.py', 'import grain', 'train may'),
    ('movinet_jax/data/a.py', 'import jax.numpy as jnp', 'data must not'),
    ('movinet_jax/data/a.py', 'def f():\n  import jax', 'data must not'),
    ('movinet_jax/data/a.py', 'def f():\n  import tensorflow', 'only movinet_jax.con'),
    ('movinet_jax/convert/a.py', 'import tensorflow as tf', 'only inside a function'),
    ('movinet_jax/convert/a.py', 'from torch import nn', 'only inside a function'),
    ('movinet_jax/export/a.py', 'import tensorflow', 'only inside a function'),
    ('movinet_jax/export/a.py', 'def f():\n  import torch', 'only movinet_jax.con'),
    ('movinet_jax/export/formats/a.py', 'import onnx', 'only inside a function'),
    ('movinet_jax/export/a.py', 'def f():\n  import onnx', 'only movinet_jax.export.formats may'),
    ('movinet_jax/a.py', 'import nas', 'movinet_jax may'),
    ('movinet_jax/serve/a.py', 'import movinet_jax as mj', 'import the whole'),
    ('movinet_jax/a.py', 'from launch import main', 'movinet_jax may'),
    ('movinet_jax/serve/a.py', 'import configs.x', 'movinet_jax may'),
    ('nas/a.py', 'import launch.main', 'nas may'),
    ('nas/algorithms/a.py', 'import movinet_jax', 'nas.algorithms may'),
    ('nas/algorithms/a.py', 'from nas.spaces import tvn', 'nas.algorithms may'),
    ('nas/spaces/a.py', 'from nas.algorithms.scale import Scale', 'nas.spaces may'),
    ('nas/spaces/a.py', 'from nas import report', 'nas.spaces may'),
    ('configs/a.py', 'import jax', 'configs may'),
    ('configs/a.py', 'import launch', 'configs may'),
  ],
)
def test_planted_violations_are_found(tmp_path, path, source, message):
  for name in ('layers/__init__', 'models/__init__', 'models/b'):
    _write(tmp_path / f'movinet_jax/{name}.py', '')
  _write(tmp_path / path, source)
  violations = find_violations(tmp_path)
  assert len(violations) == 1
  assert message in violations[0]


def test_planted_cycles_are_found(tmp_path):
  _write(tmp_path / 'movinet_jax/serve/a.py', 'from movinet_jax import cost')
  _write(tmp_path / 'movinet_jax/cost/__init__.py', 'import movinet_jax.export')
  _write(tmp_path / 'movinet_jax/export.py', 'def f():\n  import movinet_jax.serve.a')
  (violation,) = find_violations(tmp_path)
  assert violation.startswith('cycle: ')
  for room in ('cost', 'export', 'serve'):
    assert f'movinet_jax.{room}' in violation


def test_what_is_allowed_is_allowed(tmp_path):
  sources = {
    'launch/a.py': 'import jax\nfrom movinet_jax import models\nimport nas.space',
    'movinet_jax/convert/a.py': 'def f():\n  import tensorflow, torch',
    'movinet_jax/models/ensemble.py': 'from movinet_jax.models import movinet',
    'movinet_jax/models/movinet.py': 'from movinet_jax import layers, ops',
    'nas/algorithms/a.py': 'import jax, json\nfrom nas.space import OneOf',
  }
  for path, source in sources.items():
    _write(tmp_path / path, source)
  for name in ('models', 'layers', 'ops'):
    _write(tmp_path / f'movinet_jax/{name}/__init__.py', '')
  _write(tmp_path / 'nas/space.py', '')
  assert find_violations(tmp_path) == []


def _write(path, source):
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_text(source + '\n')
