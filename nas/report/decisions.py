"""Every decision: what the policy made of it, and how often each choice was trained."""

import dataclasses
import json
from collections.abc import Mapping, Sequence

import numpy as np

from nas.report.charts import LETTER_WIDTH, Axis, colour, svg, text
from nas.report.findings import Findings
from nas.report.html import (
  Html,
  figure,
  fold,
  format_choice,
  format_percent,
  join,
  key,
  missing,
  note,
  tag,
)
from nas.space import Decision, Space


def count_trained(space: Space, choices) -> np.ndarray:
  """How many of n networks trained each choice: [D, most choices] of vectors [n, D].

  A choice of a decision that is closed in a network was not trained by it.
  """
  counts = np.zeros((len(space), max(space.sizes, default=0)), np.int64)
  for start in range(0, len(choices), 65_536):  # bounds the memory
    part = np.asarray(choices[start : start + 65_536])
    opened = space.is_open(part)
    for n in range(len(space)):
      counts[n] += np.bincount(part[opened[:, n], n], minlength=counts.shape[1])
  return counts


def share_entropy(sizes: Sequence[int], table: np.ndarray) -> np.ndarray:
  """[..., D] entropies as shares of their most; 0 where there is one choice."""
  inside = np.where(table > 0, table, 1)
  entropy = -np.sum(inside * np.log(inside), axis=-1)
  most = np.log(np.asarray(sizes, float))
  return np.divide(entropy, most, out=np.zeros_like(entropy), where=most > 0)


def mean_entropy(sizes: Sequence[int], table: np.ndarray) -> np.ndarray | None:
  """[...] means of `share_entropy` over what has two choices or more; None if nothing.

  What has one choice has no entropy to lose, and would make a policy look surer.
  """
  free = np.asarray(sizes) > 1
  if not free.any():
    return None
  return share_entropy(sizes, table)[..., free].mean(axis=-1)


def name_choices(space: Space) -> list[list[str]]:
  """For each decision what its choices are called."""
  return [
    # What may be left out is named by that, not by all that is in it.
    ['kept' if None in row and isinstance(v, dict) else format_choice(v) for v in row]
    for row in space.values
  ]


def list_groups(space: Space) -> dict[str, list[int]]:
  """Part of the network -> its decisions' numbers."""
  groups = {}
  for n, decision in enumerate(space.decisions):
    groups.setdefault(_split_path(decision.path)[0], []).append(n)
  return groups


def _split_path(path: str) -> tuple[str, str, str]:
  """A path's part of the network, place in it and rest: blocks/0, layers/2, kernel."""
  keys = [key.split(':')[0] for key in path.split('/')]
  ends = [i + 1 for i, key in enumerate(keys) if key.isdigit()]
  first = ends[0] if ends else 0
  second = ends[1] if len(ends) > 1 else first
  return tuple('/'.join(part) for part in (keys[:first], keys[first:second], keys[second:]))


def _name_decision(path: str) -> str:
  group, place, rest = _split_path(path)
  return f'{place} {rest}'.strip() or group


@dataclasses.dataclass(frozen=True)
class Choices:
  """What is known of every choice: what it is, and, of those measured, the rest.

  Attributes:
    labels: for each decision, of its choices.
    policy: steps and probabilities of some moments, the last among them.
    trained: [D, most choices], shares of the networks.
    chosen: number of a decision -> the found choice; none where no network was found.
  """

  space: Space
  labels: list[list[str]]
  policy: tuple[np.ndarray, np.ndarray] | None
  trained: np.ndarray | None
  chosen: Mapping[int, int]


def make_decisions(findings: Findings) -> Html:
  choices = _gather_choices(findings)
  parts = [_list_least_trained(choices), _draw_entropies(choices)]
  parts.append(tag('h3', 'Every choice'))
  parts.append(
    note(
      'Bars and percentages are the final probabilities; the chart before them shows '
      'the same over the steps. “Trained” is the share of all networks run that had '
      'the choice. Framed is the found network; faded, decisions that do not matter in '
      'it.'
    )
  )
  for i, (group, members) in enumerate(list_groups(choices.space).items()):
    title = f'{group or "Others"}: {len(members)} decisions'
    rows = [_draw_decision(choices, n) for n in members]
    parts.append(fold(title, *rows, open=None if i else '', class_='group'))
  return join(parts)


def _gather_choices(findings: Findings) -> Choices:
  space, samples, policy = findings.space, findings.samples, findings.probabilities
  if policy is not None:
    policy = _take_moments(*map(np.asarray, policy)) if len(policy[0]) else None
  trained = None
  if samples is not None and len(samples):
    trained = count_trained(space, samples.choices) / len(samples)
  chosen = find_chosen(space, (findings.found or {}).get('choices', {}))
  return Choices(space, name_choices(space), policy, trained, chosen)


def find_chosen(space: Space, found: Mapping) -> dict[int, int]:
  """Number of a decision -> its choice, of values by path.

  Raises:
    ValueError: they are of another space.
  """
  known = {d.path: n for n, d in enumerate(space.decisions)}
  chosen = {}
  for path, value in found.items():
    # As text, for in Python 1 == 1.0 == True.
    texts = [json.dumps(v) for v in space.values[known[path]]] if path in known else []
    if json.dumps(value) not in texts:
      raise ValueError(
        f'choices of another space: {path} is {json.dumps(value)}, the space has '
        f'{" or ".join(texts) or "no such decision"}'
      )
    chosen[known[path]] = texts.index(json.dumps(value))
  return chosen


def describe_changes(space: Space, changed: Mapping) -> str:
  """Choices by path, each said once: those that a choice opens, within it.

  Raises:
    ValueError: they are of another space.
  """
  chosen = find_chosen(space, changed)
  paths = {space.decisions[n].path: n for n in chosen}

  def say(n: int) -> str:
    row, choice = space.values[n], chosen[n]
    said = format_choice(fill(row[choice], f'{space.decisions[n].path}:{choice}'))
    if None in row and isinstance(row[choice], Mapping):
      return f'kept ({said})' if said else 'kept'
    return said

  def fill(value, path: str):
    """A choice, with what was chosen in it."""
    if path in paths:
      return say(paths[path])
    if isinstance(value, Mapping):
      return {key: fill(part, f'{path}/{key}') for key, part in value.items()}
    if isinstance(value, tuple):
      return tuple(fill(part, f'{path}/{i}') for i, part in enumerate(value))
    return value

  inside = {n for n in chosen if any(m in chosen for m, _ in space.decisions[n].needs)}
  tops = sorted(chosen.keys() - inside)
  return ', '.join(f'{space.decisions[n].path} → {say(n)}' for n in tops)


def _take_moments(steps, table, most: int = 60):
  """Steps and probabilities of at most as many moments, the last among them."""
  at = np.unique(np.linspace(0, len(steps) - 1, min(most, len(steps))).round())
  return steps[at.astype(int)], table[at.astype(int)]


def _list_least_trained(choices: Choices) -> Html:
  if choices.trained is None:
    return missing('No network has been sampled yet: no choice was trained.')
  found = sorted(
    (choices.trained[n, i], d.path, label)
    for n, d in enumerate(choices.space.decisions)
    for i, label in enumerate(choices.labels[n])
  )
  texts = [f'{path} {label} ({share:.2%})' for share, path, label in found[:5]]
  return note(f'Trained by the fewest of the networks run: {"; ".join(texts)}.')


def _draw_entropies(choices: Choices) -> Html:
  if choices.policy is None:
    return missing('The policy has not been logged yet.')
  names = [_name_decision(d.path) for d in choices.space.decisions]
  maps = [
    _draw_entropy_map(choices, names, group or 'Others', members)
    for group, members in list_groups(choices.space).items()
  ]
  scale = tag('p', key('h0', 'decided'), key('h7', 'undecided'))
  title = tag('h3', 'Entropy of every decision over the steps')
  return join([title, scale, tag('div', *maps, class_='charts')])


def _draw_entropy_map(choices: Choices, names, group: str, members) -> Html:
  """A row for each decision, darker the less it is decided, over the moments."""
  steps, table = choices.policy
  shares = share_entropy(choices.space.sizes[members], table[:, members])
  levels = np.clip((shares * 8).astype(int), 0, 7)
  # Room for the names of all groups, so that all are drawn to one scale.
  left = 8 + LETTER_WIDTH * max(map(len, names))
  tall, wide = 18, 340 / len(steps)
  width, height = round(left + 348), tall * len(members)
  cells = {}
  for row in range(len(members)):
    # Neighbours of one level are one rectangle.
    edges = np.flatnonzero(np.diff(levels[:, row])) + 1
    for first, last in zip([0, *edges], [*edges, len(steps)], strict=True):
      x, long = left + first * wide, (last - first) * wide
      shape = f'M{x:.1f},{row * tall}h{long:.1f}v{tall - 4}h-{long:.1f}Z'
      cells.setdefault(int(levels[first, row]), []).append(shape)
  parts = [tag('path', d=''.join(v), class_=f'h{k}') for k, v in sorted(cells.items())]
  for row, n in enumerate(members):
    parts.append(text(left - 6, row * tall + 11, names[n], anchor='end'))
  parts.append(text(left, height + 12, f'step {steps[0]:,.0f}'))
  parts.append(text(left + 340, height + 12, f'{steps[-1]:,.0f}', anchor='end'))
  # Narrower, it scrolls: names that shrink are not legible.
  options = {'class_': 'chart', 'style': f'min-width:{width}px'}
  return figure(group, svg(width, height + 18, f'Entropy of {group}', *parts, **options))


def _draw_decision(choices: Choices, n: int) -> Html:
  decision, chosen = choices.space.decisions[n], choices.chosen
  head, drawn = [tag('b', _name_decision(decision.path))], []
  if choices.policy is not None:
    steps, table = choices.policy
    left = float(share_entropy(choices.space.sizes[n], table[-1, n]))
    head.append(tag('small', f'entropy {format_percent(left)}'))
    drawn.append(_draw_areas(decision, steps, table[:, n, : decision.choices]))
  cells = [
    tag('li', *_draw_choice(choices, n, i), class_='won' if chosen.get(n) == i else None)
    for i in range(decision.choices)
  ]
  class_ = 'decision closed' if chosen and n not in chosen else 'decision'
  parts = [tag('div', *head), *drawn, tag('ul', *cells)]
  return tag('div', *parts, class_=class_, data_path=decision.path)


def _draw_choice(choices: Choices, n: int, i: int) -> list[Html]:
  parts = [tag('span', choices.labels[n][i])]
  if choices.policy is not None:
    share = float(choices.policy[1][-1, n, i])
    bar = tag('i', class_=colour(i), style=f'width:{100 * share:.1f}%')
    parts.append(tag('span', bar, class_='meter'))
    parts.append(tag('em', format_percent(share)))
  if choices.trained is not None:
    share = float(choices.trained[n, i])
    parts.append(tag('small', f'trained {format_percent(share)}'))
  return parts


def _draw_areas(decision: Decision, steps, table) -> Html:
  """Probabilities [S, N] over steps, stacked."""
  x = np.append(steps, steps[-1] + 1) if len(steps) == 1 else steps
  table = np.repeat(table, 2, axis=0) if len(steps) == 1 else table
  x = Axis(x[0], x[-1], 0, 160)(x)
  tops = 44 * (1 - np.cumsum(table, axis=1))
  areas = []
  for i in reversed(range(decision.choices)):  # each over the foot of the one before
    points = ' '.join(f'{a:.0f},{b:.0f}' for a, b in zip(x, tops[:, i], strict=True))
    areas.append(tag('path', d=f'M0,44 {points} 160,44Z', class_=f'area {colour(i)}'))
  name = f'Probabilities of {decision.path} over the steps'
  return svg(160, 44, name, *areas, class_='areas')
