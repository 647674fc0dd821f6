"""A server that answers each request with any bytes, over real sockets."""

import re
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

#: Writes the answer to a connection; returns when it is done or the client has disconnected.
Answer = Callable[[socket.socket], None]


def answer(body: bytes, *headers: str, status: str = "200 OK") -> Answer:
    """An ordinary answer with this body. It says that the connection is closed: a client must not use it again."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", "Connection: close", *headers]
    head = "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n"
    return lambda connection: connection.sendall(head + body)


def drip(first: bytes, again: bytes, stop: threading.Event) -> Answer:
    """An endless answer: some bytes every twentieth of a second, until told to stop."""

    def run(connection: socket.socket) -> None:
        connection.sendall(first)
        while not stop.wait(0.05):
            connection.sendall(again)

    return run


@contextmanager
def raw_server(answer: Answer, heard: list[bytes] | None = None) -> Iterator[str]:
    """Serves that answer to every connection, once each; yields the URL. Requests are added to `heard`."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:  # closed: the test is over
                    return
                threading.Thread(target=_answer_one, args=(connection, answer, heard), daemon=True).start()

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)
    thread.join(10)


def _answer_one(connection: socket.socket, answer: Answer, heard: list[bytes] | None) -> None:
    with connection:
        asked = b""
        # An unread request would make closing the connection a reset, which may lose the answer.
        while (wanted := _length(asked)) is None or len(asked) < wanted:
            more = connection.recv(65_536)
            if not more:
                return
            asked += more
        if heard is not None:
            heard.append(asked)
        try:
            answer(connection)
            # If it were closed immediately, a reset might lose what the client has not read: the client closes first.
            connection.shutdown(socket.SHUT_WR)
            connection.settimeout(10)
            while connection.recv(65_536):
                pass
        except OSError:  # the client disconnected
            return


def _length(asked: bytes) -> int | None:
    """Bytes of a whole request, as soon as its headers have arrived."""
    head, end, _ = asked.partition(b"\r\n\r\n")
    if not end:
        return None
    lengths = re.findall(rb"(?im)^content-length: *(\d+)", head)
    return len(head) + 4 + (int(lengths[0]) if lengths else 0)
