"""Servers on this machine that send pictures as cameras do."""

import base64
import contextlib
import http.server
import socket
import socketserver
import tempfile
import threading
import time
from fractions import Fraction

import av
import numpy as np


def make_frames(count, size=64):
  """Frames whose brightness says their number, with so much noise that files are large."""
  noise = np.random.default_rng(0).integers(-40, 41, (count, size, size, 3))
  levels = 50 + 5 * np.arange(count)[:, None, None, None]
  return np.clip(levels + noise, 0, 255).astype(np.uint8)


def read_numbers(pictures):
  return [round((picture.mean() - 50) / 5) for picture in pictures]


def encode(count, form='mpegts', fps=10, first=0, **options):
  """A video of numbered frames as bytes; every frame is a key frame."""
  with tempfile.NamedTemporaryFile(suffix=f'.{form}') as file:
    _write(file.name, form, fps, first, count, options)
    return file.read()


def _write(path, form, fps, first, count, options):
  with av.open(path, 'w', format=form, options=options) as container:
    settings = {'g': '1', 'crf': '1', 'tune': 'zerolatency'}
    stream = container.add_stream('libx264', rate=fps, options=settings)
    stream.width = stream.height = 64
    stream.pix_fmt = 'yuv420p'
    for frame in make_frames(first + count)[first:]:
      container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format='rgb24')))
    container.mux(stream.encode(None))


def encode_jpeg(frame):
  codec = av.CodecContext.create('mjpeg', 'w')
  codec.width, codec.height, codec.pix_fmt = frame.shape[1], frame.shape[0], 'yuvj420p'
  codec.time_base = Fraction(1, 25)
  picture = av.VideoFrame.from_ndarray(frame, format='rgb24').reformat(format='yuvj420p')
  return bytes(codec.encode(picture)[0])


@contextlib.contextmanager
def serve_http(answer, port=0):
  """A server that calls `answer(handler)` for every request; yields its address."""

  class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
      with contextlib.suppress(OSError):  # whoever asked has gone
        answer(self)
      self.close_connection = True

    def log_message(self, *_):
      pass

  class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
    daemon_threads = allow_reuse_address = True

  with Server(('127.0.0.1', port), Handler) as server:
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
      yield f'http://127.0.0.1:{server.server_port}'
    finally:
      server.shutdown()


def send_head(handler, kind, length=None):
  handler.send_response(200)
  handler.send_header('Content-Type', kind)
  if length is not None:
    handler.send_header('Content-Length', str(length))
  handler.end_headers()


def send_jpegs(handler, frames, fps):
  """Sends pictures as IP cameras do, in their time."""
  send_head(handler, 'multipart/x-mixed-replace; boundary=picture')
  for frame in frames:
    jpeg = encode_jpeg(frame)
    handler.wfile.write(
      b'--picture\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n' % len(jpeg)
    )
    handler.wfile.write(jpeg + b'\r\n')
    time.sleep(1 / fps)


def encode_units(frames):
  """For each frame its H.264 units, parameter sets included."""
  codec = av.CodecContext.create('libx264', 'w')
  codec.width, codec.height, codec.pix_fmt = frames.shape[2], frames.shape[1], 'yuv420p'
  codec.time_base = Fraction(1, 10)
  codec.options = {'g': '1', 'crf': '1', 'tune': 'zerolatency'}
  for frame in frames:
    (packet,) = codec.encode(av.VideoFrame.from_ndarray(frame, format='rgb24'))
    units = bytes(packet).replace(b'\0\0\0\1', b'\0\0\1').split(b'\0\0\1')
    yield [unit for unit in units if unit]


@contextlib.contextmanager
def serve_rtsp(frames, fps=10, user='', port=0):
  """A camera that speaks RTSP over one TCP connection; yields its address.

  Args:
    frames: what each connection shows, one after another; it then hangs up.
    user: 'name:password' that it wants, if any.
  """

  class Camera(socketserver.StreamRequestHandler):
    def handle(self):
      with contextlib.suppress(OSError):
        while head := self._read_head():
          self._answer(*head)

    def _read_head(self):
      lines = []
      while line := self.rfile.readline().strip():
        lines.append(line.decode())
      if not lines:
        return None
      return lines[0].split()[0], dict(line.split(': ', 1) for line in lines[1:])

    def _answer(self, method, head):
      wanted = 'Basic ' + base64.b64encode(user.encode()).decode()
      if user and head.get('Authorization') != wanted:
        return self._reply(head, '401 Unauthorized', 'WWW-Authenticate: Basic realm="camera"')
      if method == 'DESCRIBE':
        sdp = 'v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=camera\r\nt=0 0\r\nm=video 0 RTP/AVP 96\r\n'
        sdp += 'a=rtpmap:96 H264/90000\r\na=fmtp:96 packetization-mode=1\r\na=control:track\r\n'
        return self._reply(head, '200 OK', 'Content-Type: application/sdp', body=sdp)
      extra = {
        'OPTIONS': 'Public: DESCRIBE, SETUP, PLAY, TEARDOWN',
        'SETUP': 'Transport: RTP/AVP/TCP;unicast;interleaved=0-1',
      }.get(method, 'Range: npt=now-')
      self._reply(head, '200 OK', 'Session: 1', extra)
      if method == 'PLAY':
        self._play()
        self.connection.shutdown(socket.SHUT_RDWR)
      return None

    def _reply(self, head, status, *lines, body=''):
      lines = [f'RTSP/1.0 {status}', f'CSeq: {head["CSeq"]}', *lines]
      lines.append(f'Content-Length: {len(body)}')
      self.wfile.write(('\r\n'.join(lines) + '\r\n\r\n' + body).encode())

    def _play(self):
      number = 0
      for index, units in enumerate(encode_units(next(shows))):
        for place, unit in enumerate(units):
          last = 0x80 if place == len(units) - 1 else 0
          number += 1
          packet = bytes([0x80, 96 | last]) + number.to_bytes(2, 'big')
          packet += (index * 90_000 // fps).to_bytes(4, 'big') + b'\0\0\0\1' + unit
          self.wfile.write(b'$\0' + len(packet).to_bytes(2, 'big') + packet)
        time.sleep(1 / fps)

  class Server(socketserver.ThreadingTCPServer):
    daemon_threads = allow_reuse_address = True

  shows = iter(frames)
  with Server(('127.0.0.1', port), Camera) as server:
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
      yield f'rtsp://{user and user + "@"}127.0.0.1:{server.server_address[1]}/live'
    finally:
      server.shutdown()
