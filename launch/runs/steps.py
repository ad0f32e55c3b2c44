"""A search in steps: each a search with a workdir of its own inside the search's workdir.

A step begins with what the step before it left on disk, so a killed search resumes in the step
that it was in, and a step can be run alone where the one before has ended.
"""

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import jax
from jax.experimental import multihost_utils

from launch.config import complete_config
from launch.runs import outcome, search, training
from launch.runs.inheritance import FOUND
from launch.runs.outcome import REPORT
from launch.runs.ownership import check_owner
from movinet_jax.names import check_name
from movinet_jax.train import mesh
from movinet_jax.train.checkpoint import count_steps
from movinet_jax.train.workdir import (
  CHECKPOINTS,
  claim_together,
  find_differences,
  read_config,
  replace_file,
)
from nas import report


def run(config: Mapping, folder: str, only: str = '') -> tuple[search.Search, dict]:
  """Searches step by step, from wherever the workdir stands.

  Args:
    config: of the search, with its `steps`.
    folder: its workdir.
    only: the name of the step to run; '' runs all.

  Returns:
    the last step that was run, and its found.json; {} in all processes but the first.

  Raises:
    ValueError: no such step, or a config that does not fit itself or the data.
    FileNotFoundError: the step before `only` has not ended.
  """
  check_owner(folder, 'search')
  config, home = _check(config), Path(folder)
  steps = search.list_steps(config)
  if only:
    check_name(only, steps, 'step of this search')
  record = complete_config(search.Config, config)
  claim_together(home, record, _list_free(home, list(steps)))
  before, ended, ran, found, program = config.get('inherit'), {}, None, {}, None
  for name, step in steps.items():
    wanted = only in ('', name)
    if ran and not wanted and not (home / name / FOUND).exists():
      break
    resolved = search.resolve({**step, 'inherit': before})
    if wanted:
      if not (program and resolved.shares_program(ran)):
        program = mesh.shard_step(resolved.step, resolved.place)
      ran, found = resolved, _run_step(resolved, home / name, program)
    ended[name], before = resolved, str(home / name)
  if not jax.process_index():
    _conclude(home, ended)
  return ran, found


def _list_free(home: Path, names: Sequence[str]) -> set[str]:
  """Keys that may change when the search goes on: of steps that have not begun, all.

  Up to the last one that has, a step may change what a search by itself may.
  """

  def has_begun(name: str) -> bool:
    return bool(count_steps(home / name / CHECKPOINTS))

  count = 1 + max((n for n, name in enumerate(names) if has_begun(name)), default=-1)
  was = read_config(home).get('steps') or {} if (home / 'config.json').exists() else {}
  gone = [name for name in was if name not in names and not has_begun(name)]
  free = {f'steps.{name}.{key}' for name in names[:count] for key in search.FREE}
  free |= {f'steps.{name}{end}' for name in (*names[count:], *gone) for end in ('', '.')}
  return {*search.FREE, *free}


def _check(config: Mapping) -> dict:
  """Builds all steps before the first begins: a mistake in the last shows now, not in days.

  Returns:
    the config with the names of its classes.
  """
  first, *_ = search.resolve_steps(config).values()
  return training.name_classes(config, first.sources[0].labels)


def _run_step(resolved: search.Search, home: Path, program: Callable) -> dict:
  found = _read_ended(resolved, home)
  if found is None:
    found = search.run(resolved, str(home), program)
  else:
    print(f'{home} has ended: {FOUND} is there', file=sys.stderr)
  if jax.process_count() > 1:
    multihost_utils.sync_global_devices(str(home))  # what was found is on disk for all
  return {} if jax.process_index() else found


def _read_ended(resolved: search.Search, home: Path) -> dict | None:
  """What a step has found that has ended with this very config."""
  if not (home / FOUND).exists():
    return None
  differences = find_differences(read_config(home), json.loads(json.dumps(resolved.claim)))
  moved = all(line.startswith('inherit:') for line in differences)
  return _read_found(home) if moved else None


def _read_found(home: Path) -> dict:
  return json.loads((home / FOUND).read_text())


def _conclude(home: Path, searches: Mapping[str, search.Search]):
  """Writes what the last of the steps that have ended has found, and the report of them all."""
  findings = {}
  for name, one in searches.items():
    place, last = home / name, one.config.loop.total_steps
    findings[name] = outcome.make_findings(one, place, last, _read_found(place))
  *_, last = findings.values()
  *_, networks = searches.values()
  page = report.ProgressiveFindings(
    title=f'Search in {home}',
    command=last.command,
    space=last.space,
    found=last.found,
    steps=findings,
    sections=outcome.list_sections(networks),
  )
  report.write_report(home / REPORT, page)
  steps = {name: _summarize(one) for name, one in findings.items()}
  replace_file(home / FOUND, json.dumps({**last.found, 'steps': steps}, indent=2) + '\n')


def _summarize(findings: report.Findings) -> dict:
  """What a step was after, and what came of it."""
  last = findings.rows[-1] if findings.rows else {}
  return {
    'target': {'cost': findings.cost, 'value': findings.target},
    'cost': findings.found['cost'],
    'accuracy': findings.found['accuracy'],
    'entropy_total': last.get('entropy_total'),
    'entropy_bound': last.get('entropy_bound'),
  }
