"""A headless Chromium that is told what to do, through the pipe of its DevTools protocol."""

import contextlib
import itertools
import json
import os
import queue
import shutil
import subprocess
import sys
import threading

import pytest

from tests.nas.report.browser import BROWSERS, FLAGS

CAMERA = ('--use-fake-device-for-media-stream', '--use-fake-ui-for-media-stream')
# The pipe is to be the browser's descriptors 3 and 4.
_EXEC = """
import fcntl, os, sys
high = [fcntl.fcntl(int(number), fcntl.F_DUPFD_CLOEXEC, 10) for number in sys.argv[1:3]]
os.dup2(high[0], 3), os.dup2(high[1], 4)
os.execvp(sys.argv[3], sys.argv[3:])
"""


class Page:
  """A tab.

  Attributes:
    console: what was written to its console as a warning or an error, and exceptions.
  """

  def __init__(self, run, secs):
    self.console, self.secs = [], secs
    self._run, self._numbers, self._answers = run, itertools.count(1), queue.Queue()
    self._session = None
    threading.Thread(target=self._listen, daemon=True).start()
    target = self.call('Target.createTarget', url='about:blank')['targetId']
    found = self.call('Target.attachToTarget', targetId=target, flatten=True)
    self._session = found['sessionId']
    for domain in ('Page', 'Runtime', 'Log', 'DOM'):
      self.call(f'{domain}.enable')

  def call(self, method, **params) -> dict:
    """A command of the protocol, and its result."""
    number = next(self._numbers)
    message = {'id': number, 'method': method, 'params': params}
    message |= {'sessionId': self._session} if self._session else {}
    self._run.commands.write(json.dumps(message).encode() + b'\0')
    self._run.commands.flush()
    answer = self._answers.get(timeout=self.secs)
    assert answer['id'] == number
    assert 'result' in answer, (method, answer)
    return answer['result']

  def keep_streams(self):
    """Keeps each stream that a camera gives the page from now on in `window.streams`."""
    self.run("""{
    window.streams = [];
    const devices = navigator.mediaDevices, ask = devices.getUserMedia.bind(devices);
    devices.getUserMedia = async wanted => {
      const stream = await ask(wanted);
      streams.push(stream);
      return stream;
    };
    }""")

  def run(self, script):
    """The value of an expression, or of what a promise resolves to."""
    given = {'expression': script, 'awaitPromise': True, 'returnByValue': True}
    answer = self.call('Runtime.evaluate', **given)
    assert 'exceptionDetails' not in answer, answer['exceptionDetails']
    return answer['result'].get('value')

  def open(self, address, ready='true'):
    """Loads a page and waits for an expression of it."""
    self.call('Page.navigate', url=address)
    loaded = "new Promise(go => document.readyState === 'complete' ? go() : addEventListener("
    self.run(f"{loaded}'load', go))")
    return self.run(ready)

  def choose(self, selector, path):
    """Gives a file to an input."""
    root = self.call('DOM.getDocument')['root']['nodeId']
    node = self.call('DOM.querySelector', nodeId=root, selector=selector)['nodeId']
    self.call('DOM.setFileInputFiles', files=[str(path)], nodeId=node)

  def _listen(self):
    rest = b''
    while piece := os.read(self._run.events, 1 << 16):
      *messages, rest = (rest + piece).split(b'\0')
      for message in map(json.loads, messages):
        if 'id' in message:
          self._answers.put(message)
        else:
          self._note(message['method'], message['params'])

  def _note(self, method, params):
    if method == 'Runtime.consoleAPICalled' and params['type'] in ('error', 'warning', 'assert'):
      self.console.append([one.get('value', one.get('description')) for one in params['args']])
    elif method == 'Runtime.exceptionThrown':
      self.console.append(params['exceptionDetails'])
    elif method == 'Log.entryAdded' and params['entry']['level'] in ('error', 'warning'):
      self.console.append(params['entry'])


@contextlib.contextmanager
def browse(profile, *flags, secs=60):
  """Starts Chromium with these flags, and yields its page. Skips where there is none."""
  program = next((p for p in BROWSERS if shutil.which(p)), None)
  if program is None:
    pytest.skip(f'no browser: none of {", ".join(BROWSERS)} is on PATH')
  theirs_in, ours_out = os.pipe()
  ours_in, theirs_out = os.pipe()
  # FLAGS let no name resolve, and take an address of numbers for a name.
  given = (*FLAGS, '--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1', *flags)
  command = [sys.executable, '-c', _EXEC, str(theirs_in), str(theirs_out), program, *given]
  command += [f'--user-data-dir={profile}', '--remote-debugging-pipe', '--window-size=1440,900']
  with open(profile.with_suffix('.log'), 'wb') as log:
    pipes = {'pass_fds': (theirs_in, theirs_out), 'stdout': log, 'stderr': log}
    run = subprocess.Popen(command, **pipes)
  os.close(theirs_in), os.close(theirs_out)
  run.commands, run.events = os.fdopen(ours_out, 'wb'), ours_in
  try:
    page = Page(run, secs)
    yield page
    page.call('Browser.close')  # its processes end before it does
    run.wait(secs)
  finally:
    run.kill()
    run.wait()
    run.commands.close()
