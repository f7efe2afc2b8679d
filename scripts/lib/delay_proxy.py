"""A TCP proxy on loopback that holds every byte back for a while, without limiting the rate.

    python3 delay_proxy.py TARGET-PORT SECONDS [WINDOW]

It says its own port on its first line and what has passed, as JSON, for each line it reads; it ends with its input.
With a window each connection has at most that many bytes under way in each direction until they are acknowledged one
round trip later, as a TCP connection has whose peer offers no larger window.
"""

import asyncio
import json
import socket
import subprocess
import sys


class DelayProxy:
    """The proxy in a process of its own, so that it and whoever measures do not wait for each other."""

    def __init__(self, target, delay, window=0):
        self._process = subprocess.Popen([sys.executable, __file__, str(target), str(delay), str(window)],
                                         stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                                         start_new_session=True)
        self.port = int(self._process.stdout.readline())

    def counters(self):
        """Bytes that were taken in, in both directions, and connections that are open."""
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def close(self):
        """Ends every connection."""
        self._process.stdin.close()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


class Window:
    """Room for bytes that were sent and not acknowledged yet."""

    def __init__(self, size, round_trip):
        self._left, self._round_trip = size, round_trip
        self._freed = asyncio.Event()

    async def room(self):
        while self._left <= 0:
            self._freed.clear()
            await self._freed.wait()
        return self._left

    def take(self, count):
        self._left -= count
        asyncio.get_running_loop().call_later(self._round_trip, self._free, count)

    def _free(self, count):
        self._left += count
        self._freed.set()


class Server:
    """Passes connections on to `target`, `delay` seconds late each way."""

    def __init__(self, target, delay, window):
        self._target, self._delay, self._window = target, delay, window
        self._passed = self._connections = 0

    async def serve(self):
        listener = socket.create_server(("127.0.0.1", 0), backlog=200)
        server = await asyncio.start_server(self._connection, sock=listener, limit=1 << 20)
        print(listener.getsockname()[1], flush=True)
        loop = asyncio.get_running_loop()
        while await loop.run_in_executor(None, sys.stdin.readline):
            print(json.dumps({"passed": self._passed, "connections": self._connections}), flush=True)
        server.close()

    async def _connection(self, reader, writer):
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target, limit=1 << 20)
        except OSError:
            writer.close()
            return
        for stream in (writer, far_writer):
            stream.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._connections += 1
        try:
            await asyncio.gather(self._pass(reader, far_writer), self._pass(far_reader, writer))
        finally:
            self._connections -= 1

    async def _pass(self, reader, writer):
        # The bound is far above what a link of 50 ms holds in flight, so it delays nobody.
        pieces = asyncio.Queue(4096)
        loop = asyncio.get_running_loop()
        window = Window(self._window, 2 * self._delay) if self._window else None

        async def send():
            while True:
                due, piece = await pieces.get()
                wait = due - loop.time()
                if wait > 0:
                    await asyncio.sleep(wait)
                if not piece:
                    break
                writer.write(piece)
                await writer.drain()

        sender = asyncio.ensure_future(send())
        try:
            while True:
                piece = await reader.read(min(1 << 18, await window.room()) if window else 1 << 18)
                if window:
                    window.take(len(piece))
                self._passed += len(piece)
                await pieces.put((loop.time() + self._delay, piece))
                if not piece:
                    break
            await sender
        except OSError:
            sender.cancel()
        finally:
            writer.close()


if __name__ == "__main__":
    asyncio.run(Server(int(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else 0).serve())
