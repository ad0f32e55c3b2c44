"""One-shot search: all networks of a space share weights, which learn while it is searched."""

from nas.oneshot.algorithms import Algorithm, find_algorithm
from nas.oneshot.settings import Settings, make_algorithm, make_settings
from nas.oneshot.step import (
  SHARED,
  SPLIT,
  SearchState,
  make_forward,
  make_search_step,
  make_state,
)
from nas.oneshot.supernets import Supernet, find_supernet, list_supernets

__all__ = [
  'SHARED',
  'SPLIT',
  'Algorithm',
  'SearchState',
  'Settings',
  'Supernet',
  'find_algorithm',
  'find_supernet',
  'list_supernets',
  'make_algorithm',
  'make_forward',
  'make_search_step',
  'make_settings',
  'make_state',
]
