"""The live page: over real sockets, and in a real browser where there is one."""

import contextlib
import functools
import http.client
import io
import itertools
import json
import os
import re
import signal
import socket
import threading
import time
from email.message import Message

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from launch import main
from launch.errors import ExitCode
from launch.runs.trained import Trained
from launch.verbs import stream
from movinet_jax import data, serve
from movinet_jax.data import live as feeds
from movinet_jax.data import motion
from movinet_jax.data.address import SourceLost, parse_source
from movinet_jax.data.live import Feed, open_feed
from movinet_jax.serve.page import server, viewers
from movinet_jax.serve.page.guard import find_intruder
from tests.data import servers
from tests.devtools import CAMERA, browse

SIZE, FPS = 8, 10
CLIP = data.EvalClip(frames=4, size=SIZE, short_side=10, fps=FPS)
LABELS = ('red', 'green', '<b>blue</b>')
ID = '0123456789abcdef'


class Toy(nn.Module):
  """Adds up the colors of all frames, so that an answer is of all that was before."""

  def init_state(self, batch, size):
    return {'total': jnp.zeros((batch, 3))}

  def __call__(self, x, state):
    total = state['total'] + x.mean((2, 3)).sum(1)
    return total, {'total': total}


@pytest.fixture(scope='module')
def toy():
  return serve.Live(Toy(), {}, (SIZE, SIZE))


@pytest.fixture
def video(tmp_path):
  """The path of noise that becomes brighter, for 0.8 seconds."""
  levels = np.arange(8)[:, None, None, None] * 24
  noise = np.random.default_rng(0).integers(0, 60, (8, 24, 32, 3))
  motion.write_video(str(tmp_path / 'a.mp4'), (noise + levels).astype(np.uint8), FPS)
  return str(tmp_path / 'a.mp4')


def describe(step):
  return step.describe(step.prediction.top(3, LABELS))


def request(page, method, path, body=None, **headers):
  """The status, headers and body of an answer."""
  host = page.address.split('/')[2]
  connection = http.client.HTTPConnection(host, timeout=10)
  headers = {name.replace('_', '-'): value for name, value in headers.items()}
  connection.request(method, path, body, headers)
  answer = connection.getresponse()
  content = answer.read()
  connection.close()
  return answer.status, answer.headers, content


class Events:
  """An open event stream."""

  def __init__(self, address):
    self.connection = http.client.HTTPConnection(address.split('/')[2], timeout=10)
    self.connection.request('GET', '/events')
    self.answer = self.connection.getresponse()

  def __iter__(self):
    while line := self.answer.readline():
      if line.startswith(b'data: '):
        yield json.loads(line[6:])

  def close(self):
    self.answer.close()
    self.connection.close()


@contextlib.contextmanager
def playing(toy, path):
  """A page on which a file is played; yields it with its broadcast, its wishes and its steps."""
  live, resets, steps = toy.fork(), serve.Resets(), []
  broadcast = serve.Broadcast(resets.ask)

  def take(frames):
    return serve.predict(live, frames, CLIP, FPS, asked=resets.watch())

  def reopen():
    live.reset()
    return open_feed(parse_source(path))

  with serve.Page() as page, open_feed(parse_source(path)) as feed:
    page.show(broadcast, {'mode': broadcast.mode})
    play = broadcast.play(feed, take, describe, reopen)
    thread = threading.Thread(target=lambda: steps.extend(play))
    thread.start()
    try:
      yield page, broadcast, steps
    finally:
      broadcast.stop()
      thread.join()


@contextlib.contextmanager
def filming(toy, frames=1):
  resets = serve.Resets()
  shown = serve.Viewers(toy, SIZE, frames, resets, describe)
  with serve.Page() as page:
    page.show(shown, {'mode': shown.mode})
    yield page, shown, resets


def count_answering():
  """Threads that answer a request."""
  return sum('process_request_thread' in thread.name for thread in threading.enumerate())


def wait_until(holds, secs=3.0):
  end = time.monotonic() + secs
  while not holds():
    assert time.monotonic() < end
    time.sleep(0.01)


def test_viewers_see_what_the_stream_says_and_see_a_file_again(toy, video):
  keys = ('frame', 'secs', 'top')
  with open_feed(parse_source(video)) as feed:
    plain = [describe(step) for step in serve.predict(toy.fork(), feed.frames(), CLIP, FPS)]
  wanted = [{key: one[key] for key in keys} for one in plain]
  assert [one['frame'] for one in wanted] == list(range(8))
  began, ends, seen = time.monotonic(), [], []
  with playing(toy, video) as (page, _, steps):
    for news in Events(page.address):
      if 'top' in news:
        seen.append({key: news[key] for key in keys})
        assert seen[-1] == wanted[news['frame']]
      if news['status'] == 'ended':  # the last answer stays
        assert (news['frame'], news['again']) == (7, True)
        ends.append(time.monotonic() - began)
        if len(ends) == 2:
          break
        assert request(page, 'POST', '/again')[0] == 204
    assert 0.6 < ends[0] < 1.5  # at its own speed
    assert ends[1] > 2 * 0.6
    status, headers, content = request(page, 'GET', '/picture?after=-1')
    assert (status, headers['Content-Type'], headers['X-Picture']) == (200, 'image/jpeg', '16')
    (*_, (_, last)) = data.read_frames(video)
    picture = np.asarray(Image.open(io.BytesIO(content)))
    assert picture.shape == last.shape
    assert abs(picture.mean() - last.mean()) < 3
    assert request(page, 'GET', '/picture?after=16')[::2] == (204, b'')  # none is newer
  assert len(seen) > 8
  assert [{key: describe(step)[key] for key in keys} for step in steps] == wanted * 2


def test_one_viewer_makes_the_stream_forget_for_all(toy, tmp_path):
  motion.write_video(str(tmp_path / 'a.mp4'), np.full((60, 24, 32, 3), 90, np.uint8), FPS)
  with playing(toy, str(tmp_path / 'a.mp4')) as (page, _, steps):
    one, other = iter(Events(page.address)), iter(Events(page.address))
    while next(one).get('frame', 0) < 2:
      pass
    assert request(page, 'POST', '/reset')[0] == 204
    news = next(news for news in other if news.get('reset'))
    assert news['reset'] == 'asked'
    assert news['since_secs'] == news['frame'] / FPS
  (number,) = (number for number, step in enumerate(steps) if step.reset)
  first, forgot = steps[0].prediction, steps[number].prediction
  np.testing.assert_allclose(forgot.probabilities, first.probabilities, atol=0.01)
  assert forgot.frame == number


def test_a_source_that_is_gone_is_told_and_may_come_back(toy, video, tmp_path):
  broadcast, takes = serve.Broadcast(lambda: None), toy.fork()
  path, seen, steps = tmp_path / 'moved.mp4', [], []

  def take(frames):
    return serve.predict(takes, frames, CLIP, FPS)

  with serve.Page() as page, open_feed(parse_source(video)) as feed:
    page.show(broadcast, {})
    play = broadcast.play(feed, take, describe, lambda: open_feed(parse_source(str(path))))
    thread = threading.Thread(target=lambda: steps.extend(play))
    thread.start()
    for news in Events(page.address):
      if news['status'] == 'ended' and news['note'] not in seen:
        seen.append(news['note'])
        assert news['again']
        if len(seen) == 2:
          break
        request(page, 'POST', '/again')
    os.rename(video, path)
    request(page, 'POST', '/again')
    wait_until(lambda: len(steps) == 16)
    broadcast.stop()
    thread.join()
  assert seen[0] == ''
  assert 'moved.mp4' in seen[1]


def test_a_source_that_is_lost_before_its_first_frame_is_not_shown_as_playing():
  broadcast, feed = serve.Broadcast(lambda: None), Feed(25)
  feed.is_lost = True
  broadcast.hear('nothing answers')
  feed.frames = lambda: iter(())
  assert not list(broadcast.play(feed, iter, describe))
  assert [broadcast._news[key] for key in ('status', 'note')] == ['lost', 'nothing answers']


def test_a_slow_viewer_skips_and_delays_nothing(toy):
  broadcast = serve.Broadcast(lambda: None)
  with serve.Page() as page:
    page.show(broadcast, {})
    events = Events(page.address)
    began = time.monotonic()
    for number in range(3000):
      broadcast._tell(frame=number)
    assert time.monotonic() - began < 1
    numbers = [-1]
    while numbers[-1] < 2999:
      numbers.append(next(iter(events)).get('frame', -1))
    assert len(numbers) < 3000
    assert numbers == sorted(numbers)
    events.close()


def test_a_slow_viewer_gets_the_latest_picture(toy, video):
  numbers = [-1]
  with playing(toy, video) as (page, _, _):
    while numbers[-1] != 8:
      _, headers, _ = request(page, 'GET', f'/picture?after={numbers[-1]}')
      numbers.append(int(headers['X-Picture']))
      time.sleep(0.25)
  assert len(numbers) < 7


def test_what_a_page_says_of_itself(toy):
  with filming(toy) as (page, _, _):
    for path, kind in (('/', 'html'), ('/page.js', 'javascript'), ('/page.css', 'css')):
      status, headers, content = request(page, 'GET', path)
      assert status == 200
      assert headers['Content-Type'] == f'text/{kind}; charset=utf-8'
      assert b'http' not in content.replace(b'https', b'')  # nothing from elsewhere
      policy = headers['Content-Security-Policy']
      assert "default-src 'none'" in policy
      assert "frame-ancestors 'none'" in policy
      assert (headers['X-Content-Type-Options'], headers['Cache-Control']) == (
        'nosniff',
        'no-store',
      )
      assert not any(name.startswith('Access-Control') for name in headers)
    assert json.loads(request(page, 'GET', '/about')[2]) == {'mode': 'film'}
    for path in ('/../setup.py', '/guard.py', '//etc/passwd', '/events'):
      assert request(page, 'GET', path)[0] == 404


def test_only_this_machine_can_connect():
  with serve.Page() as page:
    assert re.fullmatch(r'http://127\.0\.0\.1:\d+/', page.address)
    port = int(page.address.split(':')[2][:-1])
    assert page._server.socket.getsockname() == ('127.0.0.1', port)
    with pytest.raises(OSError, match=f'port {port}: address already in use; take another'):
      serve.Page(port)


OWN = {'Host': '127.0.0.1:8000'}


@pytest.mark.parametrize(
  ('method', 'path', 'headers', 'is_allowed'),
  [
    ('GET', '/events', OWN, True),  # a program of this machine
    ('GET', '/events', {**OWN, 'Sec-Fetch-Site': 'same-origin'}, True),
    ('POST', '/reset', {**OWN, 'Origin': 'http://127.0.0.1:8000'}, True),
    ('POST', '/reset', {'Host': 'localhost:9', 'Origin': 'http://localhost:9'}, True),
    ('GET', '/', {'Host': 'evil.example'}, False),
    ('GET', '/', {'Host': '127.0.0.1.evil.example:8000'}, False),
    ('GET', '/', {'Host': '10.0.0.7:8000'}, False),
    ('GET', '/', {}, False),
    ('POST', '/reset', {**OWN, 'Origin': 'http://evil.example'}, False),
    ('POST', '/reset', {**OWN, 'Origin': 'http://127.0.0.1:8001'}, False),
    ('POST', '/reset', {**OWN, 'Origin': 'http://localhost:8000'}, False),
    ('POST', '/reset', {**OWN, 'Origin': 'https://127.0.0.1:8000'}, False),
    ('POST', '/reset', {**OWN, 'Origin': 'null'}, False),
    ('GET', '/picture', {**OWN, 'Sec-Fetch-Site': 'cross-site'}, False),
    ('GET', '/picture', {**OWN, 'Sec-Fetch-Site': 'same-site'}, False),
    ('GET', '/picture', {**OWN, 'Sec-Fetch-Site': 'none'}, False),
  ],
)
def test_no_other_origin_may_read_or_post(method, path, headers, is_allowed):
  message = Message()
  for name, value in headers.items():
    message[name] = value
  assert (find_intruder(method, path, message) == '') == is_allowed


def test_a_person_may_open_the_page_by_a_link_and_a_frame_may_not():
  for dest, is_allowed in (('document', True), ('iframe', False), ('image', False)):
    message = Message()
    fetch = {'Site': 'cross-site', 'Mode': 'navigate', 'Dest': dest}
    for name, value in {
      'Host': 'localhost',
      **{f'Sec-Fetch-{k}': v for k, v in fetch.items()},
    }.items():
      message[name] = value
    assert (find_intruder('GET', '/', message) == '') == is_allowed
    assert find_intruder('GET', '/page.js', message)


def test_a_typed_address_leads_to_the_page():
  message = Message()
  for name, value in {**OWN, 'Sec-Fetch-Site': 'none'}.items():
    message[name] = value
  assert 'open http://127.0.0.1:8000/ instead' in find_intruder('GET', '/index.html', message)


def test_intruders_get_nothing_over_the_socket(toy):
  with filming(toy) as (page, _, _):
    for headers in ({'Host': 'evil.example'}, {'Origin': 'http://evil.example'}):
      for method, path in (('GET', '/'), ('GET', '/about'), ('POST', f'/frames?viewer={ID}')):
        body = bytes(3 * SIZE**2) if method == 'POST' else None
        status, _, content = request(page, method, path, body, **headers)
        assert (status, b'film' in content) == (403, False)
    assert request(page, 'OPTIONS', '/about')[0] == 501  # no other origin learns that it may


def send_frames(page, name, frames):
  """The answer to frames of a viewer, whose name is filled up to an ID."""
  path = f'/frames?viewer={name * 16}'
  status, _, content = request(page, 'POST', path, np.ascontiguousarray(frames).tobytes())
  assert status == 200, content
  return json.loads(content)


def make_frames(count, chunk=1):
  return np.random.default_rng(1).integers(0, 256, (count, chunk, SIZE, SIZE, 3), np.uint8)


def test_each_browser_has_a_stream_of_its_own(toy):
  frames = make_frames(10)
  wanted = []
  for own in (frames[::2], frames[1::2], frames[6::2]):
    live = toy.fork()
    wanted.append([[p for _, p in live(frame).top(3, LABELS)] for frame in own])
  with filming(toy) as (page, _, resets):
    found = [send_frames(page, 'ab'[number % 2], frame) for number, frame in enumerate(frames)]
    probabilities = [[top['probability'] for top in one['top']] for one in found]
    np.testing.assert_allclose(probabilities[::2], wanted[0], atol=1e-5)
    np.testing.assert_allclose(probabilities[1::2], wanted[1], atol=1e-5)
    assert [(one['viewer'], one['frame']) for one in found[-2:]] == [(0, 4), (1, 4)]
    # One forgets, the other does not; then all do.
    assert request(page, 'POST', f'/reset?viewer={"a" * 16}')[0] == 204
    one, other = send_frames(page, 'a', frames[6]), send_frames(page, 'b', frames[7])
    assert (one['reset'], one['frame'], 'reset' in other) == ('asked', 5, False)
    found = [top['probability'] for top in one['top']]
    np.testing.assert_allclose(found, wanted[2][0], atol=1e-5)
    resets.ask()
    assert {send_frames(page, name, frames[0])['reset'] for name in 'ab'} == {'asked'}


def test_there_are_not_too_many_browsers_and_silent_ones_end(toy, monkeypatch):
  frame = make_frames(1)[0]
  monkeypatch.setattr(viewers, 'MOST_VIEWERS', 2)
  with filming(toy) as (page, shown, _):
    for name in 'abab':
      answer = send_frames(page, name, frame)
    assert answer['frame'] == 1
    status, _, content = request(page, 'POST', f'/frames?viewer={"c" * 16}', frame.tobytes())
    assert (status, b'2 cameras' in content) == (503, True)
    monkeypatch.setattr(viewers, '_SPARE_SECS', 0.0)
    send_frames(page, 'b', frame)
    assert send_frames(page, 'c', frame)['viewer'] == 2  # in the place of the most silent one
    assert send_frames(page, 'b', frame)['frame'] == 3
    monkeypatch.setattr(viewers, 'SILENT_SECS', 0.0)
    assert next(shown.steps(Feed(25))).viewer == 0
    assert send_frames(page, 'b', frame)['frame'] == 0


def test_a_busy_network_delays_no_step_and_none_is_lost_at_the_end(toy):
  feed = Feed(25)
  with filming(toy) as (page, shown, _):
    for frame in make_frames(3):
      send_frames(page, 'a', frame)
    with shown._lock:
      steps = shown.steps(feed)
      assert next(steps).prediction.frame == 0
      feed.stop()
    assert [step.prediction.frame for step in steps] == [1, 2]
    path, body = f'/frames?viewer={"a" * 16}', make_frames(1)[0].tobytes()
    assert request(page, 'POST', path, body)[0] == 410  # no answer that nobody takes a note of


def test_chunks_are_sent_at_once():
  live = serve.Live(Toy(), {}, (SIZE, SIZE), 3)
  frames = make_frames(1, chunk=3)[0]
  with filming(live, 3) as (page, _, _):
    assert send_frames(page, 'a', frames)['frame'] == 2
    status, _, content = request(page, 'POST', f'/frames?viewer={ID}', frames[:1].tobytes())
    assert (status, b'192 bytes; wanted 576: 3 frames of 8 x 8 x 3' in content) == (400, True)


def speak(page, text, secs=5.0):
  """What the server says to raw bytes before it closes the connection."""
  host, port = page.address.split('/')[2].split(':')
  with socket.create_connection((host, int(port)), timeout=secs) as connection:
    connection.sendall(text)
    parts = []
    while part := connection.recv(65_536):
      parts.append(part)
  return b''.join(parts)


def test_posts_are_bounded_in_length_and_time(toy, monkeypatch):
  monkeypatch.setattr(server, 'BODY_SECS', 0.3)
  size = 3 * SIZE**2
  head = f'POST /frames?viewer={ID} HTTP/1.1\r\nHost: localhost\r\n'.encode()
  with filming(toy) as (page, _, _):
    for length, body, wanted in (
      (b'', b'', b' 411 '),
      (b'Transfer-Encoding: chunked\r\n', b'5\r\nabcde\r\n0\r\n\r\n', b' 411 '),
      (b'Content-Length: -1\r\n', b'', b' 411 '),
      (f'Content-Length: {size + 1}\r\n'.encode(), bytes(size + 1), b' 413 '),
      (b'Content-Length: 3000000\r\n', bytes(3_000_000), b' 413 '),
      (b'Content-Length: 99999999999999\r\n', bytes(100), b' 413 '),
      (f'Content-Length: {size}\r\n'.encode(), bytes(size - 1), b' 408 '),
    ):
      began = time.monotonic()
      answer = speak(page, head + length + b'\r\n' + body)
      assert answer.split(b'\r\n')[0].startswith(b'HTTP/1.1' + wanted), answer
      assert time.monotonic() - began < 2
    assert b'192 at most' in speak(page, head + b'Content-Length: 193\r\n\r\n' + bytes(193))
    assert request(page, 'POST', f'/frames?viewer={ID}', b'abc')[0] == 400
    assert request(page, 'POST', '/frames?viewer=..', bytes(size))[0] == 400
    assert request(page, 'POST', '/reset?viewer=' + ID, b'abc')[0] == 413
    assert send_frames(page, 'a', make_frames(1)[0])['frame'] == 0


def test_an_address_that_is_none_is_refused(capsys):
  with serve.Page() as page:
    page.show(serve.Broadcast(lambda: None), {})
    answer = speak(page, b'GET http://[ HTTP/1.1\r\nHost: evil.example\r\n\r\n')
  assert answer.startswith(b'HTTP/1.1 400 ')
  assert capsys.readouterr().err == ''


def test_a_head_that_dribbles_is_cut_off(toy, monkeypatch):
  monkeypatch.setattr(server._Handler, 'timeout', 0.3)
  with filming(toy) as (page, _, _):
    address, began = ('127.0.0.1', page._server.server_port), time.monotonic()
    with socket.create_connection(address, timeout=0.1) as slow, contextlib.suppress(OSError):
      while time.monotonic() < began + 3:
        slow.sendall(b'G')
        with contextlib.suppress(TimeoutError):
          assert slow.recv(1) == b''
          break
    assert 0.2 < time.monotonic() - began < 1


def test_whoever_says_nothing_hinders_nobody(toy, monkeypatch):
  monkeypatch.setattr(server._Handler, 'timeout', 0.3)
  monkeypatch.setattr(server, 'MOST_CONNECTIONS', 5)
  with filming(toy) as (page, _, _):
    address = ('127.0.0.1', page._server.server_port)
    idle = [socket.create_connection(address, timeout=5) for _ in range(4)]
    idle[0].sendall(b'GET / HTT')
    assert request(page, 'GET', '/about')[0] == 200
    idle += [socket.create_connection(address, timeout=5) for _ in range(4)]
    assert idle[-1].recv(1) == b''  # one too many
    assert idle[0].recv(1) == b''  # silent for too long
    wait_until(lambda: count_answering() == 0)
    assert request(page, 'GET', '/about')[0] == 200
    for connection in idle:
      connection.close()


def test_a_closed_tab_leaves_no_thread(toy):
  broadcast = serve.Broadcast(lambda: None)
  with serve.Page() as page:
    page.show(broadcast, {})
    tabs = [Events(page.address) for _ in range(3)]
    assert all(next(iter(tab))['status'] == 'waiting' for tab in tabs)
    assert count_answering() == 3
    for tab in tabs:
      tab.close()
    wait_until(lambda: count_answering() == 0, 1.5)


def test_a_page_ends_with_what_ended_the_stream(toy):
  for error, last in ((None, ('stopped', '')), (ValueError('a reason'), ('failed', 'a reason'))):
    broadcast = serve.Broadcast(lambda: None)
    with contextlib.suppress(ValueError), serve.Page() as page:
      page.show(broadcast, {})
      events = Events(page.address)
      next(iter(events))
      idle = socket.create_connection(('127.0.0.1', page._server.server_port))
      wait_until(lambda: count_answering() == 2)
      began = time.monotonic()
      if error:
        raise error
    assert time.monotonic() - began < 0.9
    assert count_answering() == 0
    news = list(events)[-1]
    assert (news['status'], news['note']) == last
    idle.close()


@pytest.fixture
def run_stream(monkeypatch, capsys):
  """Runs `movinet stream --serve` of the toy in this thread, and a visit to it in another one.

  A visit gets the address; after it a signal ends the stream. Returns the exit code, the standard
  output, the lines beside it, and the seconds from the signal to the end.
  """
  monkeypatch.setattr(stream, 'load_given', lambda _: Trained('', 'toy', Toy(), {}, LABELS, CLIP))

  def run(visit, *options, number=signal.SIGINT):
    said, times, errors = [], [], []

    def go(address):
      try:
        visit(address)
      except BaseException as error:
        errors.append(error)
      times.append(time.monotonic())
      os.kill(os.getpid(), number)

    def hear(line):
      said.append(line)
      if match := re.search('http://[^ ]+', line):
        threading.Thread(target=go, args=(match[0],)).start()

    monkeypatch.setattr(stream, 'tell', hear)
    code = stream.main(['--checkpoint=toy', '--serve', *options])
    times.append(time.monotonic())
    assert not errors, errors
    return code, capsys.readouterr().out, said, times[1] - times[0]

  return run


def test_an_interrupt_ends_the_command_at_once(run_stream, video, tmp_path):
  """With an event stream that is open and one that nobody reads, in the middle and at the end."""
  for until, count in (('playing', None), ('ended', 8)):
    tabs = []

    def visit(address, until=until, tabs=tabs):
      tabs += [Events(address), Events(address)]
      next(news for news in tabs[0] if news['status'] == until and news.get('frame', 0) > 2)

    save = tmp_path / f'{until}.mp4'
    options = (f'--source={video}', '--json', '--top=2', f'--save={save}')
    code, out, said, secs = run_stream(visit, *options)
    lines = [json.loads(line) for line in out.splitlines()]
    assert (code, secs < 1) == (ExitCode.DONE, True)
    assert [line['frame'] for line in lines] == list(range(count or len(lines)))
    assert 3 < len(lines) <= 8
    assert len(list(data.read_frames(str(save)))) == len(lines)
    summary = json.loads(said[-1])
    assert (summary['frames'], 'frames_per_sec' in summary) == (len(lines), False)
    assert list(tabs[1])[-1]['status'] == 'stopped'
    for tab in tabs:
      tab.close()


def test_the_command_serves_browsers(run_stream):
  frames = make_frames(2, 3)

  def visit(address):
    with serve.Page() as page:  # only for its form
      page.address = address
      send_frames(page, 'a', frames[0])
      os.kill(os.getpid(), signal.SIGUSR1)
      time.sleep(0.3)  # until the main thread notices
      send_frames(page, 'a', frames[1])
      send_frames(page, 'b', frames[1])
      time.sleep(0.3)

  code, out, said, secs = run_stream(visit, '--source=browser', '--chunk=3', number=signal.SIGTERM)
  assert (code, secs < 1) == (ExitCode.DONE, True)
  assert re.findall(r'^viewer (\d) .* frame +(\d+)', out, re.MULTILINE) == [
    ('0', '2'),
    ('0', '5'),
    ('1', '2'),
  ]
  assert len(re.findall('^viewer 0 .*forgotten, as asked', out, re.MULTILINE)) == 1
  assert said[-1].startswith('9 frames; ')


@pytest.mark.usefixtures('run_stream')
def test_viewers_are_told_that_a_source_is_lost(monkeypatch):
  monkeypatch.setattr(feeds, '_RETRY_SECS', (0.2, 0.2))
  asked, seen = [], []

  def answer(handler):
    asked.append(handler.path)
    if len(asked) > 2:
      return handler.send_error(404)
    servers.send_head(handler, 'video/mp2t')
    handler.wfile.write(servers.encode(8))
    return None

  def look(line):
    if match := re.search('shown at ([^ ]+)', line):
      watch = threading.Thread(target=lambda: seen.extend(Events(match[1])))
      watch.start()
      threads.append(watch)

  threads = []
  monkeypatch.setattr(stream, 'tell', look)
  with servers.serve_http(answer) as url, pytest.raises(SourceLost):
    stream.main(['--checkpoint=toy', '--serve', f'--source={url}/live', '--reconnect-secs=0.3'])
  threads[0].join()
  statuses = [status for status, _ in itertools.groupby(news['status'] for news in seen)]
  assert statuses[-4:] == ['lost', 'playing', 'lost', 'failed']
  assert 'come back within 0.3 s' in seen[-1]['note']
  assert [news['since_secs'] is None for news in (seen[0], seen[-1])] == [True, False]


@pytest.mark.usefixtures('run_stream')
def test_a_source_without_an_answer_ends_the_page(video):
  with pytest.raises(ValueError, match='shorter than one chunk'):
    stream.main(['--checkpoint=toy', '--serve', f'--source={video}', '--chunk=9'])


@pytest.mark.parametrize(
  ('options', 'words'),
  [
    (['--source=browser'], 'give --serve'),
    (['--source=browser', '--serve', '--save=a.mp4'], '--save is for'),
    (['--source=browser', '--serve', '--reset-on-cut'], '--reset-on-cut is for'),
    (['--source=browser', '--serve', '--source-fps=5'], '--source-fps=5 is for'),
  ],
)
def test_what_a_browser_cannot_do_is_told(options, words):
  with pytest.raises(ValueError, match=words):
    stream.main(['--checkpoint=none', *options])


def test_a_port_that_is_taken_is_told_before_anything_is_loaded(capsys):
  with serve.Page() as page:
    port = page.address.split(':')[2][:-1]
    options = ['stream', '--checkpoint=none', '--source=none.mp4', f'--serve={port}']
    assert main.main(options) == ExitCode.MISUSE
  assert f'at port {port}: address already in use; take another' in capsys.readouterr().err
  for wrong in ('65536', '٣'):
    with pytest.raises(SystemExit):
      stream.main([*options[1:3], f'--serve={wrong}'])


def resize(tab, width, scheme):
  """Makes the window of a phone or of a desktop, light or dark."""
  size = {'width': width, 'height': 844, 'deviceScaleFactor': 1, 'mobile': width < 600}
  tab.call('Emulation.setDeviceMetricsOverride', **size)
  features = [{'name': 'prefers-color-scheme', 'value': scheme}]
  tab.call('Emulation.setEmulatedMedia', features=features)


def press_enter(tab, name):
  """Goes to a button by the tabulator key and presses it."""
  for _ in range(5):
    for kind in ('rawKeyDown', 'keyUp'):
      tab.call('Input.dispatchKeyEvent', type=kind, key='Tab', windowsVirtualKeyCode=9)
    if tab.run('document.activeElement.id') == name:
      break
  assert tab.run('document.activeElement.id') == name
  for kind in ('keyDown', 'keyUp'):
    key = {'type': kind, 'key': 'Enter', 'windowsVirtualKeyCode': 13, 'text': '\r'}
    tab.call('Input.dispatchKeyEvent', **key)


def await_page(tab, condition):
  """Waits until a condition holds on the page."""
  wait = f'new Promise(go => {{ const look = () => ({condition}) ? go(1) : setTimeout(look, 30);'
  assert tab.run(f'{wait} look(); }})')


def read_page(tab):
  """What a person reads there: names of classes, percentages, lengths of bars, numbers."""
  return tab.run("""({
    labels: [...document.querySelectorAll('#top span')].map(one => one.textContent),
    percents: [...document.querySelectorAll('#top b')].map(one => parseFloat(one.textContent)),
    bars: [...document.querySelectorAll('#top i')].map(one =>
      100 * parseFloat(getComputedStyle(one, '::before').width) / one.clientWidth),
    markup: document.querySelectorAll('#top span *').length,
    frames: parseInt(document.getElementById('frame').textContent),
    status: document.getElementById('status').textContent,
    tooWide: document.documentElement.scrollWidth - document.documentElement.clientWidth,
    colors: getComputedStyle(document.body).backgroundColor,
  })""")


def test_in_a_browser(run_stream, video, tmp_path):
  with browse(tmp_path / 'profile', *CAMERA) as tab:
    for visit, source in ((check_watching, video), (check_filming, 'browser')):
      code, *_ = run_stream(functools.partial(visit, tab), f'--source={source}')
      assert code == ExitCode.DONE
      await_page(tab, "document.getElementById('status').textContent === 'The stream has ended.'")
    # The address refuses frames, and then no longer answers.
    wanted = re.compile('ERR_CONNECTION_REFUSED|status of 410')
    assert all(wanted.search(one['text']) for one in tab.console), tab.console


def check_watching(tab, address):
  tab.open(address)
  await_page(tab, "!document.getElementById('again').hidden")
  await_page(tab, "document.getElementById('image').naturalWidth === 32")
  colors = set()
  for width, scheme in ((390, 'dark'), (1440, 'light')):
    resize(tab, width, scheme)
    time.sleep(0.3)  # in which bars move
    found = read_page(tab)
    assert (found['tooWide'], found['markup'], found['frames']) == (0, 0, 8)
    assert sorted(found['labels']) == sorted(LABELS)
    assert sum(found['percents']) == pytest.approx(100, abs=0.2)
    np.testing.assert_allclose(found['bars'], found['percents'], atol=1)
    colors.add(found['colors'])
  assert len(colors) == 2
  press_enter(tab, 'again')
  await_page(tab, "document.getElementById('again').hidden")
  press_enter(tab, 'reset')
  await_page(tab, "!document.getElementById('since').hidden")
  assert read_page(tab)['frames'] <= 8  # it began anew


def check_filming(tab, address):
  tab.open(address)
  await_page(tab, "!document.getElementById('camera').hidden")
  check_double_click(tab)
  press_enter(tab, 'camera')
  await_page(tab, "parseInt(document.getElementById('frame').textContent) > 5")
  began, first = time.monotonic(), read_page(tab)
  await_page(tab, "parseInt(document.getElementById('frame').textContent) > 15")
  later = read_page(tab)
  rate = (later['frames'] - first['frames']) / (time.monotonic() - began)
  assert 0.5 * FPS < rate < 1.2 * FPS
  # The camera is green, and the toy adds it up.
  assert (later['labels'][0], later['status']) == ('green', 'Live')
  assert 99 > later['percents'][0] > first['percents'][0]
  press_enter(tab, 'camera')
  assert read_page(tab)['status'] == 'The camera is off.'
  press_enter(tab, 'camera')
  await_page(tab, "document.getElementById('status').textContent === 'Live'")


def check_double_click(tab):
  """Of two cameras that are started at once, one is on, and the button stops it."""
  tab.keep_streams()
  is_disabled = tab.run("""
  const button = document.getElementById('camera');
  button.onclick(), button.onclick(), button.disabled;""")
  assert is_disabled
  await_page(tab, "streams.length === 2 && document.getElementById('video').srcObject")
  assert tab.run('streams.map(stream => stream.active)') == [False, True]
  tab.run("document.getElementById('camera').click()")
  assert tab.run('streams.map(stream => stream.active)') == [False, False]
