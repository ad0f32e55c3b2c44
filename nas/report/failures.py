"""Trials that failed, were stopped early or never trained, and why."""

import collections
import re

from nas.history import State
from nas.report.html import Html, fold, join, missing, note, table, tag
from nas.report.trials import SweepFindings

TITLES = {
  State.FAILED: 'Failed',
  State.DISCARDED: 'Discarded',
  State.PRUNED: 'Pruned',
}
LONGEST = 140  # of a reason that is not folded
SHOWN = 6  # numbers of a group


def make_failures(findings: SweepFindings) -> Html:
  rows = [
    [title, _say_reason(reasons[0]), len(numbers), _say_numbers(numbers)]
    for state, title in TITLES.items()
    for reasons, numbers in _group(findings, state)
  ]
  if not rows:
    return missing('No trial failed, was discarded or pruned.')
  said = (
    'By reason, the most frequent first. Reasons that differ in their numbers alone are '
    'counted together, with the words of the first.'
  )
  return join([note(said), table(('What', 'Reason', 'Count', 'Trials'), rows, texts=2)])


def _group(findings: SweepFindings, state: State):
  """Reasons and numbers of the trials in a state that are alike."""
  groups = collections.defaultdict(lambda: ([], []))
  for trial in findings.trials:
    if trial.state is state:
      reason = trial.reason or 'no reason given'
      reasons, numbers = groups[re.sub(r'\d[\d.,]*', '0', reason)]
      reasons.append(reason)
      numbers.append(trial.number)
  return sorted(groups.values(), key=lambda group: (-len(group[1]), group[1]))


def _say_reason(reason: str) -> Html:
  """A reason, folded where it is long."""
  first = reason.strip().splitlines()[0] if reason.strip() else reason
  if first == reason and len(reason) <= LONGEST:
    return join([reason])
  head = first if len(first) <= LONGEST else f'{first[:LONGEST]}…'
  return fold(head, tag('pre', reason))


def _say_numbers(numbers) -> str:
  said = ', '.join(map(str, numbers[:SHOWN]))
  return f'{said}, …' if len(numbers) > SHOWN else said
