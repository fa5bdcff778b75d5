"""Other Python clients than the one of client.py, on live data."""

import aiohttp
import msgpack


async def test_aiohttp_reads_the_market(plant):
    server = plant("--sim-symbols", 50, "--sim-rate", 5000)
    last, count = {}, 0
    async with (
        aiohttp.ClientSession() as http,
        http.ws_connect(server.ws, protocols=["ticker.v1.msgpack"], compress=15, max_msg_size=0) as socket,
    ):
        assert socket.protocol == "ticker.v1.msgpack"
        await socket.send_bytes(msgpack.packb({"op": "subscribe", "channels": ["trades", "quotes"], "symbols": ["*"]}))
        async for frame in socket:
            assert frame.type is aiohttp.WSMsgType.BINARY, frame
            message = msgpack.unpackb(frame.data)
            if isinstance(message, dict):
                assert message["type"] in ("welcome", "subscribed", "heartbeat"), message
                continue
            _, *elements = message
            snapshot = elements[0][0] == 0
            for kind, instrument, seq, *_ in elements[snapshot:]:
                key = kind, instrument
                assert snapshot or seq == last.get(key, 0) + 1
                last[key] = seq
                count += 1
            if count > 3000:
                break
        assert await socket.close(code=1000)
