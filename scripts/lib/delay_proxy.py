"""A TCP proxy on loopback that holds every byte back for a while, without limiting the rate."""

import asyncio
import socket
import threading


class DelayProxy:
    """Listens on a port of its own and passes connections on to `target`, `delay` seconds late each way."""

    def __init__(self, target, delay):
        self._target, self._delay = target, delay
        # Bytes that were taken in, in both directions.
        self.passed = 0
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def close(self):
        """Ends every connection."""
        self._loop.call_soon_threadsafe(lambda: self._loop.create_task(self._end()))
        self._thread.join(5)

    async def _end(self):
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        self._loop.stop()

    def _serve(self):
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(asyncio.start_server(self._connection, sock=self._socket, limit=1 << 20))
        self._loop.run_forever()

    async def _connection(self, reader, writer):
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target, limit=1 << 20)
        except OSError:
            writer.close()
            return
        for stream in (writer, far_writer):
            stream.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await asyncio.gather(self._pass(reader, far_writer), self._pass(far_reader, writer))

    async def _pass(self, reader, writer):
        # The bound is far above what a link of 50 ms holds in flight, so it delays nobody.
        pieces = asyncio.Queue(4096)

        async def send():
            while True:
                due, piece = await pieces.get()
                wait = due - self._loop.time()
                if wait > 0:
                    await asyncio.sleep(wait)
                if not piece:
                    break
                writer.write(piece)
                await writer.drain()

        sender = asyncio.ensure_future(send())
        try:
            while True:
                piece = await reader.read(1 << 18)
                self.passed += len(piece)
                await pieces.put((self._loop.time() + self._delay, piece))
                if not piece:
                    break
            await sender
        except OSError:
            sender.cancel()
        finally:
            writer.close()
