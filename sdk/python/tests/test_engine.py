"""What the engine decides, message by message."""

import json
from dataclasses import replace

import pytest
from script import INSTRUMENTS, WELCOME, Script

from tickerplant import (
    Connected,
    Ended,
    Gap,
    Lost,
    Notice,
    Refused,
    RequestError,
    Subscribed,
    Ticket,
    Trade,
    Unsubscribed,
)
from tickerplant.engine import Connect
from tickerplant.engine.server_events import EventParser, ServerEvent, close_of
from tickerplant.engine.stream import StreamRequest
from tickerplant.errors import ProtocolError, Reason, closed, refused
from tickerplant.subscription import subscription

LOST = closed(None, "")
TRADES = subscription("trades", ["A", "B"])


def seqs(events):
    return [event.seq for event in events if isinstance(event, Trade)]


def subscribed(symbols=("A", "B")):
    """A session with trades of A and B, A having come to 41."""
    script = Script().open()
    script.engine.subscribe(Ticket(1), subscription("trades", symbols))
    (command,) = script.commands()
    script.subscribed(command["id"])
    script.trades(41, snapshot=True)
    script.events()
    return script


def test_a_wish_is_said_once_the_session_is_open_and_answered_with_its_ticket():
    script = Script()
    script.engine.subscribe(Ticket(1), TRADES)
    script.open()
    commands = script.commands()
    assert {command["op"] for command in commands} == {"subscribe"}
    assert commands[-1]["symbols"] == ["A", "B"]
    script.subscribed(commands[-1]["id"])
    connected, answer = script.events(Connected, Subscribed)
    assert connected == Connected("s", "e1", epoch_changed=False)
    assert (answer.ticket, answer.interval_ms) == (1, None)


def test_a_lost_connection_resumes_after_the_last_number():
    script = subscribed()
    script.trades(42, 43)
    script.engine.lost(LOST, script.now)
    (lost,) = script.events(Lost)
    assert lost.retry_in_s == 0.125
    script.pass_time(0.125)
    script.open()
    (command,) = script.commands()
    # Of B no state has come before the first live element: it has had no value, and 0 means from the first.
    assert command["since"] == {"epoch": "e1", "seqs": {"A": {"trades": 43}, "B": {"trades": 0}}}
    script.subscribed(command["id"], recovered={"A": {"trades": "recovered"}})
    script.trades(43, 44, 45)
    assert seqs(script.events()) == [44, 45]
    assert script.engine.counters.duplicates == 1


def test_a_declared_gap_is_told_from_the_number_that_is_expected():
    script = subscribed()
    script.say([9, [8, 1, 60, 5, "trades", 42, 60, "evicted"]])
    script.trades(60, snapshot=True)
    (gap,) = script.events(Gap)
    assert (gap.from_seq, gap.to_seq, gap.reason, gap.count) == (42, 60, "evicted", 19)


def test_a_jump_without_a_word_is_a_gap_too():
    script = subscribed()
    script.trades(45)
    gap, trade = script.events(Gap, Trade)
    assert (gap.from_seq, gap.to_seq, gap.reason, trade.seq) == (42, 44, "undeclared", 45)


def test_another_epoch_begins_anew_and_says_so():
    script = subscribed()
    script.engine.lost(LOST, script.now)
    script.pass_time(1)
    script.open(epoch="e2")
    (command,) = script.commands()
    assert "since" not in command
    script.subscribed(command["id"])
    script.trades(1)
    events = script.events()
    assert [event.epoch_changed for event in events if isinstance(event, Connected)] == [True]
    assert seqs(events) == [1]
    assert not [event for event in events if isinstance(event, Gap)]


def test_a_stream_whose_number_means_nothing_begins_with_its_state():
    script = subscribed()
    script.engine.lost(LOST, script.now)
    script.pass_time(1)
    script.open()
    (command,) = script.commands()
    script.subscribed(command["id"], recovered={"A": {"trades": "snapshot"}})
    script.trades(7, snapshot=True)
    assert seqs(script.events()) == [7]


def test_unknown_symbols_are_refused_and_not_wanted_again():
    script = Script().open()
    script.engine.subscribe(Ticket(1), TRADES)
    (command,) = script.commands()
    script.subscribed(command["id"], instruments=[["A", 1, -2, 0]])
    script.say({"type": "error", "id": command["id"], "code": "unknown_symbol", "message": "no", "symbols": ["B"]})
    (refusal,) = script.events(Refused)
    assert (refusal.ticket, refusal.symbols) == (1, ["B"])
    script.engine.lost(LOST, script.now)
    script.pass_time(1)
    script.open()
    (command,) = script.commands()
    assert command["symbols"] == ["A"]


def test_entitlements_take_away_only_what_they_name():
    script = Script().open()
    script.engine.subscribe(Ticket(1), TRADES)
    (command,) = script.commands()
    script.subscribed(command["id"], instruments=[["A", 1, -2, 0]])
    script.say({"type": "error", "id": command["id"], "code": "not_entitled", "message": "no", "symbols": ["B"]})
    script.engine.lost(LOST, script.now)
    script.pass_time(1)
    script.open()
    assert [command["symbols"] for command in script.commands()] == [["A"]]


def test_what_was_not_answered_is_asked_again():
    script = Script().open()
    script.engine.subscribe(Ticket(1), TRADES)
    script.engine.request_instruments(Ticket(2), "A")
    script.engine.unsubscribe(Ticket(3), ("quotes",), None)
    assert len(script.commands()) == 3
    script.engine.lost(LOST, script.now)
    assert script.events(Unsubscribed) == [Unsubscribed(Ticket(3))]
    script.pass_time(1)
    script.open()
    assert [command["op"] for command in script.commands()] == ["subscribe", "subscribe", "instruments"]


def test_a_book_that_is_wrong_is_asked_for_again_also_after_a_cut():
    script = Script().open()
    script.engine.subscribe(Ticket(1), subscription("book.10", "A"))
    (command,) = script.commands()
    script.subscribed(command["id"], ["book.10"], instruments=[["A", 1, -2, 0]])
    script.say([9, [0, 1], [4, 1, 41, 5, 10, [], [], 0]])
    script.engine.repair("A", "book.10")
    (repair,) = script.commands()
    assert (repair["symbols"], "since" in repair) == (["A"], False)
    script.engine.lost(LOST, script.now)
    script.pass_time(1)
    script.open()
    first, second = script.commands()
    assert ("since" in first, "since" in second) == (True, False)
    script.subscribed(second["id"], ["book.10"])
    assert script.events(Subscribed)[-1].ticket is None


def test_commands_keep_to_the_limits_of_the_welcome():
    script = Script().open(limits={"commands_per_s": 10, "commands_burst": 5})
    for number in range(6):
        script.engine.subscribe(Ticket(number + 1), subscription("trades", f"S{number}"))
    assert len(script.actions()) == 3
    assert script.engine.due() == pytest.approx(script.at + 0.11)
    script.pass_time(0.11)
    assert len(script.commands()) == 1


def test_refused_for_their_rate_commands_wait_and_are_said_again():
    script = subscribed()
    script.engine.subscribe(Ticket(2), subscription("quotes", "A"))
    assert len(script.commands()) == 1
    script.say({"type": "error", "code": "rate_limited", "message": "slowly"})
    assert script.commands() == []
    script.pass_time(2)
    (command,) = script.commands()
    assert command["channels"] == ["quotes"]


def test_long_wishes_go_in_parts_and_all_of_them_resume():
    script = Script().open(limits={"message_bytes_max": 2000, "commands_per_s": 0})
    symbols = [f"SYMBOL-{number}" for number in range(200)]
    script.engine.subscribe(Ticket(1), subscription(["trades", "quotes"], symbols))
    payloads = [action.payload for action in script.actions() if hasattr(action, "payload")]
    assert len(payloads) > 2
    assert max(map(len, payloads)) <= 2000


@pytest.mark.parametrize(
    ("code", "ends"),
    [
        (None, False),
        (1000, False),
        (1001, False),
        (1002, True),
        (1003, True),
        (1007, True),
        (1008, False),
        (1009, True),
        (1011, False),
        (1012, False),
        (1013, False),
        (4401, True),
        (4408, False),
        (4409, True),
        (4429, False),
    ],
)
def test_close_codes_decide_whether_to_come_back(code, ends):
    script = subscribed()
    script.engine.lost(closed(code, "because"), script.now)
    (event,) = script.events(Lost, Ended)
    assert isinstance(event, Ended) == ends == script.engine.ended
    assert event.reason.code == code


def test_an_expired_token_is_no_end_where_another_can_be_had():
    script = Script(renewable=True).open()
    script.engine.lost(closed(4401, "the token has expired"), script.now)
    assert script.events(Lost)
    script.pass_time(1)
    # Never let in with the new one: another attempt would be the same.
    script.engine.lost(closed(4401, "wrong"), script.now)
    assert script.events(Ended)


def test_a_server_that_drains_is_obeyed():
    script = subscribed()
    script.say({"type": "notice", "code": "draining", "reconnect_after_ms": 1500, "message": "bye"})
    script.engine.lost(closed(1012, ""), script.now)
    notice, lost = script.events(Notice, Lost)
    assert (notice.code, lost.retry_in_s) == ("draining", 1.5)
    # Once: the next attempt that fails draws its own pause.
    script.pass_time(1.5)
    script.engine.lost(LOST, script.now)
    assert script.events(Lost)[0].retry_in_s == 0.25


def test_refused_upgrades_wait_as_they_say():
    script = Script(transports=("websocket",))
    script.engine.lost(refused(503, "draining", 5.0), script.now)
    assert script.events(Lost)[0].retry_in_s == 5.125
    script.pass_time(6)
    script.engine.lost(refused(404, "what?", None), script.now)
    assert str(script.events(Ended)[0].reason) == "the server refused the connection with 404: what?"


def test_pauses_grow_and_are_short_again_after_a_session():
    script = Script()
    pauses = []
    for _ in range(9):
        script.engine.lost(LOST, script.now)
        pauses.append(script.events(Lost)[0].retry_in_s)
        script.pass_time(pauses[-1])
    assert pauses == [0.125, 0.25, 0.5, 1, 2, 4, 8, 15, 15]
    script.open()
    script.at += 1
    script.engine.lost(LOST, script.now)
    assert script.events(Lost)[0].retry_in_s == 1, "it was reached at least"
    script.pass_time(1)
    script.open()
    script.at += 5
    script.engine.lost(LOST, script.now)
    assert script.events(Lost)[0].retry_in_s == 0.125


def test_silence_is_a_dead_connection():
    script = subscribed()
    script.at += 24
    script.trades(42)
    script.pass_time(24.9)
    assert script.engine.ready
    script.pass_time(0.1)
    assert "nothing came" in str(script.events(Lost)[0].reason)
    assert script.closes()


def test_a_server_that_does_not_open_the_session_in_time_is_left():
    script = Script(transports=("websocket",))
    script.engine.connected(script.now)
    script.pass_time(10)
    assert str(script.events(Lost)[0].reason) == "the server did not open the session within 10 s"


def test_the_token_goes_before_everything_else():
    script = Script(auth_command=True)
    script.engine.token = "tp_secret"
    script.engine.subscribe(Ticket(1), TRADES)
    script.open()
    (command,) = script.commands()
    assert (command["op"], command["token"]) == ("auth", "tp_secret")
    script.say({"type": "authenticated"})
    assert {command["op"] for command in script.commands()} == {"subscribe"}


def test_a_bad_token_is_the_end():
    script = Script(auth_command=True)
    script.engine.token = "tp_wrong"
    script.open()
    script.say({"type": "error", "code": "auth_failed", "message": "no such key"})
    assert str(script.events(Ended)[0].reason) == "authentication failed: no such key"


def test_a_bad_renewal_is_not():
    script = subscribed()
    script.engine.authenticate("tp_worse")
    script.say({"type": "error", "code": "auth_failed", "message": "no such key"})
    assert [event.code for event in script.events(Refused)] == ["auth_failed"]
    assert script.engine.ready


def test_the_clock_is_that_of_the_quickest_ping():
    script = Script().open()
    (ping,) = script.commands("ping")
    sent = script.now.wall_ns
    script.at += 0.5
    script.say({"type": "pong", "id": ping["id"], "time": sent + 10_000_000_000})
    assert script.engine.clock.offset_ns == pytest.approx(9_750_000_000, abs=1000)
    assert script.engine.clock.to_local(sent + 10_000_000_000) == pytest.approx(sent + 250_000_000, abs=1000)
    script.pass_time(10)
    (ping,) = script.commands("ping")
    script.at += 2
    script.say({"type": "pong", "id": ping["id"], "time": 0})
    assert script.engine.clock.round_trip_s == pytest.approx(0.5)


def test_heartbeats_are_compared_with_our_counts():
    script = subscribed()
    script.trades(42, 43)
    script.say({"type": "heartbeat", "time": 0, "delivered": 2, "dropped": 0})
    assert script.engine.counters.heartbeats_wrong == 0
    script.say({"type": "heartbeat", "time": 0, "delivered": 3, "dropped": 0})
    assert script.engine.counters.heartbeats_wrong == 1


def test_elements_of_kinds_and_instruments_to_come_are_passed_over():
    script = subscribed()
    script.say([9, [99, 1, 1, 5, "new"], [1, 77, 1, 5, 1, 1, 1, 0], [1, 1, 42, 5, 1, 1, 7, 0, "more"]])
    script.say({"type": "weather", "sunny": True})
    assert seqs(script.events()) == [42]
    assert script.engine.counters.unknown == 2
    script.say({"type": "heartbeat", "time": 0, "delivered": 3, "dropped": 0})
    assert script.engine.counters.heartbeats_wrong == 0


def test_a_change_of_mode_is_kept_over_a_cut():
    script = subscribed()
    script.engine.update(Ticket(2), subscription("trades", ["A"], latest_ms=250))
    (command,) = script.commands()
    assert command["op"] == "update"
    assert (command["mode"], command["interval_ms"], "snapshot" in command) == ("latest", 250, False)
    script.engine.lost(LOST, script.now)
    script.pass_time(1)
    script.open()
    settings = {tuple(command["symbols"]): command["mode"] for command in script.commands()}
    assert settings == {("A",): "latest", ("B",): "every"}


def test_stars_resume_each_stream_and_know_new_instruments():
    script = Script().open()
    script.engine.subscribe(Ticket(1), subscription("trades", "*"))
    (command,) = script.commands()
    script.subscribed(command["id"])
    script.trades(41, snapshot=True)
    new = {"symbol": "C", "instrument_id": 3, "price_exponent": 0, "size_exponent": 0, "tick_size": 1, "lot_size": 1}
    script.say({"type": "instruments", "instruments": [new]})
    script.trades(2, instrument=3)
    (gap,) = script.events(Gap)
    assert (gap.symbol, gap.from_seq, gap.to_seq) == ("C", 1, 1)
    script.engine.lost(LOST, script.now)
    script.pass_time(1)
    script.open()
    (command,) = script.commands()
    assert command["since"]["seqs"] == {"A": {"trades": 41}, "C": {"trades": 2}, "B": {"trades": 0}}


@pytest.mark.parametrize(
    ("channels", "symbols", "says"),
    [
        ([], ["A"], "no channel is named"),
        (["trades"], [], "no symbol is named"),
        (["candles"], ["A"], "'candles' is no channel"),
        (["trades"], ["Ä"], "'Ä' is no symbol"),
        (["trades"], ["A" * 33], "is no symbol"),
        (["trades"], [7], "7 is not a text"),
    ],
)
def test_what_cannot_be_subscribed_is_said_at_once(channels, symbols, says):
    with pytest.raises(RequestError, match=says):
        subscription(channels, symbols)


@pytest.mark.parametrize("latest_ms", [-1, 1.5, True, 2**32])
def test_rates_are_whole_milliseconds(latest_ms):
    with pytest.raises(RequestError, match="latest_ms"):
        subscription("trades", "A", latest_ms)


def test_of_a_star_and_names_the_star_wins():
    assert subscription("trades", ["A", "*"]).symbols == ("*",)
    assert subscription(["trades", "trades"], ["A", "A"]).symbols == ("A",)


FORBIDDEN = refused(403, "no WebSockets here", None)
RESET = Reason("the connection ended", blocked="perhaps")


def requests(script):
    """What connections were wanted, None for a WebSocket."""
    return [action.request for action in script.actions() if isinstance(action, Connect)]


def test_a_refused_upgrade_leads_to_events_at_once_and_their_failure_back():
    script = Script()
    assert requests(script) == [None]
    script.engine.lost(FORBIDDEN, script.now)
    assert requests(script) == [StreamRequest(None)]
    assert script.events() == []
    script.engine.lost(RESET, script.now)
    assert [lost.retry_in_s for lost in script.events(Lost)] == [0.125]
    script.pass_time(1)
    assert requests(script) == [None]


def test_a_cut_hand_shake_is_taken_for_blocked_at_the_first_connection_and_later_if_it_happens_again():
    script = Script()
    script.engine.lost(RESET, script.now)
    assert requests(script)[-1] == StreamRequest(None)
    script = Script().open()
    for transports in (None, None, StreamRequest(None)):
        script.engine.lost(RESET, script.now)
        script.pass_time(1)
        assert requests(script) == [transports]


@pytest.mark.parametrize("status", [401, 408, 429, 503])
def test_what_the_server_itself_refuses_is_not_blocked(status):
    script = Script()
    script.actions()
    script.engine.lost(refused(status, "", None), script.now)
    assert script.events(Lost, Ended)
    assert requests(script) == []


def test_when_neither_way_can_be_had_the_hand_shake_says_why():
    script = Script()
    script.engine.lost(FORBIDDEN, script.now)
    script.engine.lost(refused(404, "what?", None), script.now)
    assert script.events(Ended)[0].reason == FORBIDDEN


def test_a_stream_is_asked_for_what_is_wanted_and_goes_on_from_its_last_id():
    script = Script(transports=("sse",), encoding="json")
    assert requests(script) == [StreamRequest(None)]
    script.engine.connected(script.now)
    assert script.events(Connected)[0].transport == "sse"
    script.engine.subscribe(Ticket(1), subscription("trades", "A"))
    script.engine.subscribe(Ticket(2), subscription("quotes", "B", latest_ms=50))
    script.pass_time(1)
    wish = StreamRequest("symbols=A%2CB&channels=quotes%2Ctrades")
    assert requests(script) == [wish]
    opened = WELCOME | {"time": "2024-07-01T13:30:00Z"}
    answer = {"type": "subscribed", "instruments": INSTRUMENTS, "channels": ["trades", "quotes"], "mode": "every"}
    parser = EventParser()

    def say(*messages):
        for message in messages:
            number = f"id: e-{message['id']}\n" if "id" in message else ""
            for event in parser.feed(f"{number}data: {json.dumps(message, separators=(',', ':'))}\n\n".encode()):
                script.engine.event(event, script.now)

    def trade(seq):
        head = {"type": "trade", "symbol": "A", "seq": seq, "time": opened["time"]}
        return head | {"price": "1.00", "size": "1", "side": "buy", "trade_id": seq}

    say(opened, answer | {"interval_ms": 0})
    assert [(one.ticket, one.interval_ms) for one in script.events(Subscribed)] == [(1, None), (2, 50)]
    say({"id": 1, "snapshot": True, "sent_at": opened["time"], "data": [trade(6)]})
    say({"id": 2, "sent_at": opened["time"], "data": [trade(7)]}, {"sent_at": opened["time"], "data": [trade(8)]})
    script.engine.lost(Reason("the event stream ended"), script.now)
    script.pass_time(1)
    assert requests(script) == [replace(wish, last_event_id="e-2")]
    # What came without an id comes again, and is shown once.
    say(opened, answer | {"interval_ms": 0}, {"id": 3, "sent_at": opened["time"], "data": [trade(8), trade(9)]})
    assert [event.seq for event in script.events(Trade, Gap)] == [6, 7, 8, 9]
    # From an id that is known no more the state comes, and what it skips is named.
    script.engine.lost(Reason("the event stream ended"), script.now)
    script.pass_time(1)
    say(opened, answer | {"interval_ms": 0, "recovered": {"A": {"trades": "snapshot"}}})
    say({"id": 9, "snapshot": True, "sent_at": opened["time"], "data": [trade(12)]})
    gap, state = script.events(Gap, Trade)
    assert (gap.from_seq, gap.to_seq, gap.reason, state.seq) == (10, 12, "not_resumed", 12)
    # The place of a close frame.
    say({"type": "closed", "reason": "token_revoked", "code": 4401, "may_reconnect": False, "message": "gone"})
    assert script.events(Ended)[0].reason.code == 4401


def test_lines_of_events_may_be_cut_anywhere():
    text = b'retry: 1384\r\n: ping\r\ndata: {"a":\r\ndata: 1}\r\n\r\n\r\nid: e-7\nevent: x\ndata:2\n\n'
    whole = [ServerEvent('{"a":\n1}', None, 1.384), ServerEvent("2", "e-7", None)]
    for size in range(1, len(text)):
        parser = EventParser()
        chunks = [text[begin : begin + size] for begin in range(0, len(text), size)]
        assert [event for chunk in chunks for event in parser.feed(chunk)] == whole
    assert close_of('{"type":"closed","code":1012,"message":"later"}') == (1012, "later")
    assert close_of('{"type":"closed"') is None
    with pytest.raises(ProtocolError, match="more than"):
        EventParser().feed(b"data: " + bytes(65 << 20))
