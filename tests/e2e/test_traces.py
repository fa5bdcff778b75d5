"""Traces for a collector of OpenTelemetry: what is sent, what never is, and a collector that is not there."""

import asyncio
import threading
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import msgpack
import pytest
import websockets
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

SECRET = "prefix-that-nobody-needs-to-know"


class Collector(ThreadingHTTPServer):
    """Takes what it is sent."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Answer)
        self.bodies = []
        self.thread = threading.Thread(target=self.serve_forever, daemon=True)
        self.thread.start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}"

    def spans(self):
        for body in self.bodies:
            for of_resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                service = value_of(of_resource.resource.attributes)["service.name"]
                for of_scope in of_resource.scope_spans:
                    yield from ((service, span) for span in of_scope.spans)


class Answer(BaseHTTPRequestHandler):
    def do_POST(self):
        assert self.path == "/v1/traces"
        self.server.bodies.append(self.rfile.read(int(self.headers["content-length"])))
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


def value_of(attributes):
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in attributes}


@pytest.fixture
def collector():
    collector = Collector()
    yield collector
    collector.shutdown()
    collector.server_close()


async def talk(plant):
    """Some commands, one of them wrong; the session's id."""
    async with websockets.connect(plant.ws, subprotocols=["ticker.v1.msgpack"]) as ws:
        welcome = msgpack.unpackb(await ws.recv())
        for command in (
            {"op": "subscribe", "id": 1, "channels": ["trades"], "symbols": ["BTC-USD"]},
            {"op": "fetch", "id": 2},
            {"op": "ping", "id": 3},
        ):
            await ws.send(msgpack.packb(command))
            while True:
                answer = msgpack.unpackb(await ws.recv())
                if isinstance(answer, dict) and answer.get("id") == command["id"]:
                    break
        return welcome["session"]


def test_requests_and_commands_are_traced_and_no_secret_is(plant, collector):
    server = plant("--otlp-endpoint", collector.url)
    with urllib.request.urlopen(f"{server.http}/api/v1/instruments?prefix={SECRET}") as response:
        assert response.status == 200
    session = asyncio.run(talk(server))
    server.terminate()
    assert server.wait() == 0, server.stderr()
    # What was not sent yet is sent at the end.
    named = {}
    for service, span in collector.spans():
        assert service == "tickerplant"
        assert span.end_time_unix_nano >= span.start_time_unix_nano > 0
        named.setdefault(span.name, []).append(span)
    asked = value_of(named["GET /api/v1/instruments"][0].attributes)
    assert named["GET /api/v1/instruments"][0].kind == Span.SPAN_KIND_SERVER
    assert (asked["http.request.method"], asked["url.path"]) == ("GET", "/api/v1/instruments")
    assert asked["http.response.status_code"] == 200
    assert value_of(named["GET /ws"][0].attributes)["http.response.status_code"] == 101
    for operation in ("subscribe", "ping"):
        assert value_of(named[operation][0].attributes)["session"] == session
        assert named[operation][0].status.code == Status.STATUS_CODE_UNSET
    (wrong,) = named["command"]
    assert wrong.status.code == Status.STATUS_CODE_ERROR
    assert value_of(wrong.attributes)["error"] == "unknown_op"
    for body in collector.bodies:
        assert SECRET.encode() not in body
        assert b"BTC-USD" not in body


def test_a_collector_that_is_not_there_costs_nobody_anything(plant, collector):
    collector.shutdown()
    collector.server_close()
    server = plant("--otlp-endpoint", collector.url, env={"OTEL_BSP_SCHEDULE_DELAY": "50"})
    assert asyncio.run(talk(server))
    server.terminate()
    assert server.wait() == 0, server.stderr()
