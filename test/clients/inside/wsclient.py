"""Sends words over a WebSocket, one when the one before has come back, and prints what comes back."""
import asyncio
import sys

import websockets


async def main(url, words):
    async with websockets.connect(url) as socket:
        for word in words:
            await socket.send(word)
            print(await socket.recv())


asyncio.run(main(sys.argv[1], sys.argv[2:]))
