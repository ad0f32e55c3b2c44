"""What a space of MoViNets may be asked for, as types that `movinet_jax.schema` checks.

Values come from config files and command lines, so whatever Python has may be among them.
"""

from typing import Annotated

from movinet_jax.schema import ASCENDING, DISTINCT, SOME, Limit, Range
from movinet_jax.spec import Size

MOST_LAYERS = 1000  # of a network; A5 has 59

# A0 to A5 are φ = -2 to 3. Depth grows by 1.36**φ: at 8 blocks have up to 117 layers and
# networks cost 65,000 times A2, at -5 a thousandth; building a space of 100 does not end.
Phi = Annotated[float, Range(-5, 8)]
Coefficient = Annotated[float, Range(1, 16)]  # of φ + 1; 1 leaves an axis as it is
Sizes = Annotated[tuple[Size, ...], SOME]
Multipliers = Annotated[tuple[Annotated[float, Range(0.01, 100)], ...], ASCENDING]
# A kernel of an even size has no center.
_Side = Annotated[Size, Limit(lambda size: size % 2 == 1, 'an odd number')]
Kernels = Annotated[tuple[tuple[_Side, _Side, _Side], ...], DISTINCT]
Clip = tuple[Size, Size, Size]
