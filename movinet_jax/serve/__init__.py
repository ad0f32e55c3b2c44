"""Live: a network on a stream of frames, in constant memory."""

import importlib

# Found when they are asked for: a stream of arrays needs no decoder of videos, no page and no
# exported files.
_HOMES = {
  'MEMORIES': 'memory',
  'Broadcast': 'page',
  'BrowserCamera': 'page',
  'Exact': 'memory',
  'Forgetting': 'memory',
  'Latency': 'live',
  'Live': 'live',
  'LiveFile': 'exported',
  'Memory': 'memory',
  'Page': 'page',
  'Prediction': 'live',
  'Recorder': 'recorder',
  'Resets': 'steps',
  'Step': 'steps',
  'Viewers': 'page',
  'Window': 'memory',
  'find_fps': 'steps',
  'make_memory': 'memory',
  'mark_scenes': 'cuts',
  'predict': 'steps',
}
__all__ = sorted(_HOMES)


def __getattr__(name: str):
  if name not in _HOMES:
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
  return getattr(importlib.import_module(f'{__name__}.{_HOMES[name]}'), name)


def __dir__():
  return sorted({*globals(), *__all__})
