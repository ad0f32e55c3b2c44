"""Which requests a page on loopback answers: those of its own scripts, and of whoever opens it.

Any page of the web may send requests to 127.0.0.1 from the browser of this machine's user, and a
name of its own may lead there (DNS rebinding). Neither may see a camera's picture.
"""

import re
from email.message import Message

# Ports may differ from the server's own: `ssh -L 9000:127.0.0.1:8000` is a usual way to it.
_HOST = re.compile(r'(127\.0\.0\.1|localhost)(:\d{1,5})?')

# Headers of every answer.
HEADERS = {
  'Content-Security-Policy': (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' blob: data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
  ),
  'Cross-Origin-Opener-Policy': 'same-origin',
  'Cross-Origin-Resource-Policy': 'same-origin',
  'Permissions-Policy': 'camera=(self)',
  'Referrer-Policy': 'no-referrer',
  'X-Content-Type-Options': 'nosniff',
  'Cache-Control': 'no-store',
}


def find_intruder(method: str, path: str, headers: Message) -> str:
  """Says why a request is not answered; '' if it is.

  A browser says where a request comes from in Origin and Sec-Fetch-Site, which no script can
  change. A request without both comes from a program on this machine. It is answered, also if the
  program runs in another account than the server.
  """
  hosts = headers.get_all('Host', [])
  if len(hosts) != 1 or not _HOST.fullmatch(hosts[0]):
    return (
      f'this page is for http://127.0.0.1 and http://localhost, not for {" and ".join(hosts)!r}: '
      'from another machine, open it through `ssh -L PORT:127.0.0.1:PORT`'
    )
  origin, site = headers.get('Origin'), headers.get('Sec-Fetch-Site', 'same-origin')
  if origin not in (None, f'http://{hosts[0]}'):
    return f'a page of {origin} may not use this one'
  if site == 'same-origin' or _is_visit(method, path, headers):
    return ''
  if site == 'none':  # a typed address or a bookmark
    return f'{path} is for the scripts of this page: open http://{hosts[0]}/ instead'
  return f'a page of another site may not use this one (Sec-Fetch-Site: {site})'


def _is_visit(method: str, path: str, headers: Message) -> bool:
  """Whether a person opens the page, by its address or a link; scripts elsewhere see nothing."""
  mode, dest = headers.get('Sec-Fetch-Mode'), headers.get('Sec-Fetch-Dest')
  return (method, mode, dest) == ('GET', 'navigate', 'document') and path == '/'
