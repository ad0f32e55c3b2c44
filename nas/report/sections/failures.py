"""Trials that failed, were stopped early or never trained, and why."""

import collections
import re

from nas.history import State
from nas.report.findings import SweepFindings

LONGEST = 140  # of a reason that is not folded
SHOWN = 6  # numbers of a group


def make(findings: SweepFindings) -> list[tuple]:
  groups = collections.defaultdict(list)
  for trial in findings.trials:
    if trial.state in (State.FAILED, State.DISCARDED, State.PRUNED):
      groups[trial.state.value, re.sub(r'\d[\d.,]*', '0', trial.reason)].append(trial)
  if not groups:
    return [('missing', 'No trial failed, was discarded or pruned.')]
  rows = []
  for (state, _), alike in sorted(groups.items(), key=lambda item: -len(item[1])):
    numbers = [str(trial.number) for trial in alike[:SHOWN]] + ['…'] * (len(alike) > SHOWN)
    rows.append([state.capitalize(), _fold(alike[0].reason), len(alike), ', '.join(numbers)])
  said = 'Reasons that differ only in their numbers are counted together.'
  return [('note', said), ('table', ('What', 'Reason', 'Count', 'Trials'), rows, 2)]


def _fold(reason: str) -> str | tuple:
  """Folds a reason where it is long."""
  reason = reason.strip() or 'no reason given'
  first = reason.splitlines()[0][:LONGEST]
  return first if first == reason else ('fold', f'{first} …', [('code', reason)])
