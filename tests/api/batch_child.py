"""A server in a process of its own, to be killed: `python batch_child.py FOLDER LOG`. Its first line is its port.

Each picture takes a while; the prompts of those that were made are added to the log.
"""

import socket
import sys
import threading
import time
from pathlib import Path

import uvicorn
from fake_service import FakeService

from headrace.api.app import create_app
from headrace.api.settings import ApiSettings
from headrace.service import Finished

PICTURE_S = 0.05


class SlowService(FakeService):
    def __init__(self, log: Path) -> None:
        super().__init__(hold=True)
        self._log = log
        threading.Thread(target=self._work, daemon=True).start()

    def submit(self, wish, listen):
        def listen_and_log(event):
            if isinstance(event, Finished):
                with self._log.open("a") as file:
                    file.write(f"{wish.request.prompt}\n")
            listen(event)

        return super().submit(wish, listen_and_log)

    def _work(self):
        while True:
            time.sleep(PICTURE_S)
            for ticket in list(self.taken)[:1]:
                self.release(ticket)


if __name__ == "__main__":
    folder, log = map(Path, sys.argv[1:])
    listening = socket.create_server(("127.0.0.1", 0))
    print(listening.getsockname()[1], flush=True)
    app = create_app(SlowService(log), ApiSettings(data_folder=folder))
    uvicorn.Server(uvicorn.Config(app, log_level="error")).run(sockets=[listening])
