"""Run as a program: a server over a fake service that holds what comes. What is held is done when a line is read."""

import sys
import threading

from fake_service import FakeService

from headrace.api.app import create_app
from headrace.api.logs import make_log
from headrace.api.server import Server, address_of, listen


def main(drain_s: float) -> None:
    service = FakeService(hold=True)
    server = Server(create_app(service, log=make_log()), service, drain_s)

    def release() -> None:
        sys.stdin.readline()
        service.release()

    threading.Thread(target=release, daemon=True).start()
    with listen("127.0.0.1", 0) as listening:
        print(address_of(listening), flush=True)
        server.serve_on(listening)
    print("drained" if server.drained else "given up", flush=True)


if __name__ == "__main__":
    main(float(sys.argv[1]))
