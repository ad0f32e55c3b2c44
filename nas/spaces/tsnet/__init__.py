"""Auto-TSNet's search space: its networks, and what they cost."""

from nas.spaces.tsnet.cost import make_cost_table
from nas.spaces.tsnet.space import FUSIONS, TsnetSpace, make_space

__all__ = ['FUSIONS', 'TsnetSpace', 'make_cost_table', 'make_space']
