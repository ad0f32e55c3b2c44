"""What a disk says when it is full, or behind a network and away."""

import errno

_FULL = (errno.ENOSPC, errno.EDQUOT)
_AWAY = (
  *(errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.ENOTCONN, errno.ECONNRESET),
  *(errno.ECONNABORTED, errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ENETUNREACH),
)


def is_full(error: BaseException) -> bool:
  """Whether there has to be room before the same command goes on."""
  return getattr(error, 'errno', None) in _FULL


def is_away(error: BaseException) -> bool:
  """Whether the same command may go on when the disk answers again."""
  return getattr(error, 'errno', None) in _AWAY
